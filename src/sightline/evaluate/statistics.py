"""Numbers over questions: intervals, pass@k, majority votes, two models on the same ones."""

from collections.abc import Sequence
from math import comb

import numpy as np

AT_ONCE = 1_000_000  # numbers drawn at a time; all of them would fill the memory


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
    at_a_time = max(1, AT_ONCE // sample.size)
    means = [
        sample[rng.integers(0, sample.size, (min(at_a_time, draws - done), sample.size))].mean(1)
        for done in range(0, draws, at_a_time)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
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


def pass_at_k(n: int, right: int, k: int) -> float:
    """Probability that at least one of `k` samples, drawn without return from `n`, is right.

    ``1 - C(n - right, k) / C(n, k)``, which is unbiased; ``1 - (1 - right / n) ** k`` is not.
    Chen et al. (arXiv:2107.03374), section 2.1.
    """
    if not (0 <= right <= n and 1 <= k <= n):
        raise ValueError(f"needs 0 <= right <= n and 1 <= k <= n, got {n=}, {right=}, {k=}")
    return 1 - comb(n - right, k) / comb(n, k)


def majority_accuracy(votes: Sequence[int | None], right: Sequence[bool]) -> float:
    """How often the most frequent answer is right, if ties are broken by lot.

    Args:
        votes: per sample, the number of the answer it gives; None for a sample without an answer,
            which does not vote.
        right: whether the sample's answer is right.

    Returns:
        The mean, over the answers with the most votes, of the share of right ones among those who
        gave it; 0 where nobody votes.
    """
    given = [vote for vote in votes if vote is not None]
    most = max((given.count(vote) for vote in given), default=0)
    shares = []
    for vote in sorted(set(given)):
        of_it = [r for v, r in zip(votes, right, strict=True) if v == vote]
        if len(of_it) == most:
            shares.append(sum(of_it) / most)
    return float(np.mean(shares)) if shares else 0.0


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> tuple[int, int, float]:
    """Exact two-sided McNemar test that two models solve equally many of the same questions.

    Only questions that one of them solves and the other does not say anything; under the null
    hypothesis each is a fair coin. McNemar (1947), with the binomial distribution.

    Returns:
        Questions that only the first solves, that only the second solves, and the p-value.
    """
    pairs = list(zip(first, second, strict=True))
    only_first = sum(a and not b for a, b in pairs)
    only_second = sum(b and not a for a, b in pairs)
    n, fewer = only_first + only_second, min(only_first, only_second)
    p = 2 * sum(comb(n, i) for i in range(fewer + 1)) / 2**n  # integers of any size: exact
    return only_first, only_second, min(1.0, p)
