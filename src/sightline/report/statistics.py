"""The statistics of the panels. Whatever is drawn at random has a fixed seed: same input, same bytes.

Intervals resample responses and not tokens: the tokens of one response are not independent.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAWS = 1000  # of a bootstrap
Floats = NDArray[np.float64]


def sampled_kl(log_ratio: Sequence[float | None]) -> list[float | None]:
    """``exp(x) - x - 1`` in nats: what dependency is made from (Schulman's k3, never below 0)."""
    return [
        None if x is None else float(np.expm1(min(x, 50.0)) - x)  # exp(50) is far off any scale
        for x in log_ratio
    ]


def ranks(values: ArrayLike) -> Floats:
    """Ranks from 1, ties sharing their mean rank."""
    _, place, count = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[place]


def auroc(scores: ArrayLike, positive: ArrayLike) -> float | None:
    """Chance that a positive outranks a negative, ties counting half; None without both."""
    mask = np.asarray(positive, dtype=bool)
    n_positive, n_negative = int(mask.sum()), int((~mask).sum())
    if not n_positive or not n_negative:
        return None
    above = ranks(scores)[mask].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def cliffs_delta(ones: Sequence[float], others: Sequence[float]) -> float | None:
    """P(one > other) - P(one < other), from -1 to 1; None if either group is empty."""
    area = auroc([*ones, *others], [True] * len(ones) + [False] * len(others))
    return None if area is None else 2 * area - 1


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


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float | None], count: int, draws: int = DRAWS
) -> tuple[float | None, float | None]:
    """95 % interval of ``statistic``, a function of which of ``count`` units were drawn.

    Draws where it does not apply (None) are left out; None twice if fewer than two units are
    there or if it applies to fewer than half of the draws.
    """
    if count < 2:
        return None, None
    random = np.random.default_rng(0)
    values = [statistic(random.integers(0, count, count)) for _ in range(draws)]
    known = [value for value in values if value is not None]
    if 2 * len(known) < draws:
        return None, None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def mean_interval(sums: ArrayLike, counts: ArrayLike) -> tuple[float | None, float | None]:
    """95 % interval of ``sums.sum() / counts.sum()``, whose units are responses."""
    total, number = np.asarray(sums, dtype=float), np.asarray(counts, dtype=float)
    used = number > 0
    total, number = total[used], number[used]

    def mean(drawn: NDArray[np.int64]) -> float | None:
        return float(total[drawn].sum() / number[drawn].sum())

    return bootstrap(mean, len(total))
