"""Accuracy on held-out questions, greedily decoded, with intervals over questions."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from .encoding import encode


@torch.no_grad()
def greedy_responses(
    model: Any,
    processor: Any,
    rows: Sequence[dict],
    max_new_tokens: int,
    batch_size: int = 128,
    progress: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """The most likely response to each row, without the end token."""
    model.eval()
    responses = []
    for start in range(0, len(rows), batch_size):
        inputs = encode(processor, rows[start : start + batch_size]).to(model.device).inputs
        generated = model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)
        responses += processor.batch_decode(
            generated[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        progress(len(responses))
    return responses


def bootstrap_interval(
    values: Sequence[float], seed: int = 0, draws: int = 10_000
) -> tuple[float, float]:
    """95 % percentile interval of the mean, resampling `values` (one per question).

    For the difference of two models give the differences of paired values: that is the paired
    bootstrap.
    """
    sample = np.asarray(values, dtype=float)
    if sample.size == 0:
        raise ValueError("an interval needs at least one value, got none")
    rng = np.random.default_rng(seed)
    means = [rng.choice(sample, sample.size).mean() for _ in range(draws)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def auroc(scores: Sequence[float], positive: Sequence[bool]) -> float | None:
    """Probability that a positive scores above a negative, ties counting half.

    Returns:
        A number in [0, 1], 0.5 for chance; None if there is no positive or no negative.
    """
    values, labels = np.asarray(scores, dtype=float), np.asarray(positive, dtype=bool)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if positives == 0 or negatives == 0:
        return None
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    ranks = np.empty(len(values))
    # tied scores share the mean of their ranks
    first = np.searchsorted(ordered, ordered, side="left")
    last = np.searchsorted(ordered, ordered, side="right")
    ranks[order] = (first + last + 1) / 2
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))
