"""The statistics of the panels; what is drawn at random has a fixed seed: same input, same bytes.

Intervals resample responses and not tokens: the tokens of one response are not independent.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.k3 import k3
from ..right_and_wrong import FEWEST

DRAWS = 1000  # of a bootstrap
Floats = NDArray[np.float64]


def sampled_kl(log_ratio: Sequence[float | None]) -> list[float | None]:
    """Sampled KL of each token in nats, as dependency is; None where there is no log-ratio."""
    known = np.array([np.nan if x is None else x for x in log_ratio], dtype=float)
    return [None if np.isnan(value) else value for value in k3(known, np.expm1).tolist()]


def ranks(values: ArrayLike) -> Floats:
    """Ranks from 1, ties sharing their mean rank."""
    _, place, count = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[place]


def auroc(scores: ArrayLike, positive: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """Chance that a positive outranks a negative, ties counting half; None without both.

    Args:
        weights: how often each score counts.
    """
    _, place = np.unique(np.asarray(scores), return_inverse=True)
    return area_of_places(place, np.asarray(positive, dtype=bool), weights)


def area_of_places(
    place: NDArray[np.int64], positive: NDArray[np.bool_], weights: ArrayLike | None = None
) -> float | None:
    """``auroc`` of scores that are already places from 0, equal ones sharing theirs."""
    counted = np.ones(len(place)) if weights is None else np.asarray(weights, dtype=float)
    ones, others = (
        np.bincount(place, counted * side, minlength=1) for side in (positive, ~positive)
    )
    pairs = ones.sum() * others.sum()
    return float((ones * (np.cumsum(others) - others / 2)).sum() / pairs) if pairs else None


def spearman(ones: ArrayLike, others: ArrayLike) -> float | None:
    """Rank correlation; None where either side does not vary."""
    left, right = ranks(ones), ranks(others)
    if len(left) < 2 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return None
    return float(np.corrcoef(left, right)[0, 1])


def precision_at(scores: ArrayLike, positive: ArrayLike, k: int) -> float:
    """Share of positives among the ``k`` highest scores, ties at the border counted in part."""
    values, mask = np.asarray(scores, dtype=float), np.asarray(positive, dtype=bool)
    border = np.sort(values)[-k]
    inside, tied = values > border, values == border
    room = k - inside.sum()
    return float((mask[inside].sum() + room * mask[tied].mean()) / k)


@cache
def drawn(count: int) -> Floats:
    """How often each of ``count`` units is drawn, ``(DRAWS, count)``: with replacement."""
    random = np.random.default_rng(0)
    return random.multinomial(count, np.full(count, 1 / count), DRAWS).astype(float)


def bootstrap(
    statistic: Callable[[Floats], float | None], count: int, draws: int = DRAWS
) -> tuple[float | None, float | None]:
    """95 % interval of ``statistic``, a function of how often each of ``count`` units counts.

    Draws where it does not apply (None) are left out; None twice if fewer than ``FEWEST`` units
    are there or if it applies to fewer than half of the draws.
    """
    if count < FEWEST:
        return None, None
    values = [statistic(weights) for weights in drawn(count)[:draws]]
    known = [value for value in values if value is not None]
    if 2 * len(known) < draws:
        return None, None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def mean_interval(sums: ArrayLike, counts: ArrayLike) -> tuple[float | None, float | None]:
    """95 % interval of ``sums.sum() / counts.sum()``, whose units are responses.

    None twice if fewer than ``FEWEST`` of them have a count.
    """
    total, number = np.asarray(sums, dtype=float), np.asarray(counts, dtype=float)
    used = number > 0
    if used.sum() < FEWEST:
        return None, None
    weights = drawn(int(used.sum()))
    low, high = np.percentile(weights @ total[used] / (weights @ number[used]), [2.5, 97.5])
    return float(low), float(high)


def wilson(labels: ArrayLike) -> tuple[float | None, float | None]:
    """Wilson's 95 % interval of the share of true ones; None twice for fewer than ``FEWEST``."""
    known = np.asarray(labels, dtype=float)
    if len(known) < FEWEST:
        return None, None
    n, share, z = len(known), float(known.mean()), 1.959964
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)
