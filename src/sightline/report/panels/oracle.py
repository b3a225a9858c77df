"""Dependency against oracle labels: does it find the tokens that are read from the image?"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..charts import lines
from ..records import Response
from ..runs import Run
from ..statistics import area_of_places, auroc, bootstrap, precision_at, wilson
from ..tables import Table

PERCENTS = 5, 10, 20, 40
BINS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, np.inf)  # nats
Pair = tuple[np.ndarray, np.ndarray]  # dependency and label of the tokens of one response


def oracle(run: Run) -> dict[str, Any]:
    """AUROC, precision at k, calibration over labelled tokens, and by step if there are several.

    The label ``visual`` is positive, any other label negative.
    """
    pairs = [pair(r) for r in run.counted if r.labels and "visual" in r.labels]
    if not pairs:
        return {}
    scores, labels = joined(pairs)
    area = auroc(scores, labels)
    if area is None:
        return {}
    place = np.unique(scores, return_inverse=True)[1]
    owner = np.repeat(np.arange(len(pairs)), [len(side) for side, _ in pairs])
    low, high = bootstrap(
        lambda weights: area_of_places(place, labels, weights[owner]), len(pairs), 200
    )
    precision = [
        (name, k, precision_at(scores, labels, k))
        for name, k in (
            ("as many as are visual", int(labels.sum())),
            *((f"top {percent} %", -(-percent * len(scores) // 100)) for percent in PERCENTS),
        )
    ]
    bins = calibration(scores, labels)
    steps = by_step([r for r in run.scored if r.labels and "visual" in r.labels])
    return {
        "auroc": area,
        "low": low,
        "high": high,
        "tokens": len(scores),
        "share": float(labels.mean()),
        "precision": precision,
        "calibration": bins,
        "steps": steps_figure(steps) if len(steps) > 1 else "",
        "tables": [
            Table("oracle_precision", ["which", "k", "precision"], precision),
            Table("oracle_calibration", ["from", "to", "tokens", "visual", "low", "high"], bins),
            Table("oracle_steps", ["step", "auroc", "precision"], steps),
        ],
    }


def pair(response: Response) -> Pair:
    known = [
        (value, label == "visual")
        for value, label in zip(response.dependency or [], response.labels or [], strict=True)
        if value is not None
    ]
    scores, labels = zip(*known, strict=True) if known else ((), ())
    return np.array(scores, dtype=float), np.array(labels, dtype=bool)


def joined(pairs: Sequence[Pair]) -> Pair:
    scores, labels = zip(*pairs, strict=True)
    return np.concatenate(scores), np.concatenate(labels)


def calibration(scores: np.ndarray, labels: np.ndarray) -> list[tuple[Any, ...]]:
    """Share of visual tokens in each bin of dependency, with Wilson's 95 % interval."""
    rows = []
    for low, high in pairwise(BINS):
        inside = labels[(scores >= low) & (scores < high)]
        if len(inside):
            top = None if high == np.inf else high
            rows.append((low, top, len(inside), float(inside.mean()), *wilson(inside)))
    return rows


def by_step(responses: Sequence[Response]) -> list[tuple[float, float, float]]:
    """Step, AUROC and precision at the number of labelled tokens, for each recorded step."""
    rows = []
    for step in sorted({r.step for r in responses if r.step is not None}):
        scores, labels = joined([pair(r) for r in responses if r.step == step])
        area = auroc(scores, labels)
        if area is not None:
            rows.append((step, area, precision_at(scores, labels, int(labels.sum()))))
    return rows


def steps_figure(steps: Sequence[tuple[float, float, float]]) -> Any:
    places = [step for step, _, _ in steps]
    return lines(
        "oracle-steps",
        "How well dependency finds labelled tokens, over training",
        {
            "AUROC": (places, [(area, None, None) for _, area, _ in steps]),
            "precision": (places, [(share, None, None) for *_, share in steps]),
        },
        ("step", "share"),
    )
