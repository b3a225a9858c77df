"""Rules compared over seeds: paired differences, their intervals and tests, share of headroom.

The seeds are the sample, one difference per seed; over many tasks the tasks are. Intervals of a
mean are Student's: percentile bootstrap intervals of five to ten values cover 85 to 91 % where they
say 95 (normal data, 1,500 simulations). Of fewer than `FEWEST` there is none, and no share of fewer
than `FEWEST_DRAWN`, whose interval is a bootstrap.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.stats import t

from ..right_and_wrong import FEWEST as FEWEST_DRAWN

FEWEST = 3  # seeds, or tasks; Student's interval of two is 13 times as wide as they lie apart
MOST_EXACT = 16  # values; 2^16 sign patterns are counted, of more than that as many are drawn


class Difference(NamedTuple):
    """Of two rules on the same seeds or tasks, first minus second.

    Args:
        mean: over the sample.
        low, high: ends of the 95 % interval of the mean; None for fewer than `FEWEST`.
        p: of the sign-flip test; 1 of a single one.
        each: per seed, or per task.
    """

    mean: float
    low: float | None
    high: float | None
    p: float
    each: list[float]


def minus(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    """First minus second, on the seeds of both."""
    return {seed: first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())}


def difference_of(each: list[float]) -> Difference:
    """Of the differences of a sample, at least one."""
    return Difference(*mean_of(each), sign_flip(each), each)


def mean_of(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """A mean and the ends of its 95 % interval; None for both of fewer than `FEWEST` values.

    Student (1908): mean ± t s / sqrt(n), with n - 1 degrees of freedom.
    """
    mean = float(np.mean(values))
    if len(values) < FEWEST:
        return mean, None, None
    reach = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return mean, mean - reach, mean + reach


def sign_flip(differences: Sequence[float], draws: int = 2**MOST_EXACT) -> float:
    """Two-sided p-value that paired differences are as often positive as negative, by size.

    Share of all patterns of signs that give a mean at least as far from 0 as the one observed;
    Fisher (1935). With n differences it is 2^(1-n) at least.
    """
    values = np.asarray(differences, dtype=float)
    if len(values) <= MOST_EXACT:
        signs = np.array(list(product((1, -1), repeat=len(values))))
    else:
        signs = np.random.default_rng(0).choice((1, -1), (draws, len(values)))
        signs[0] = 1  # the observed pattern is one of them
    sums = np.abs(signs @ values)
    # sums of the same numbers in another order differ by rounding
    return float(np.mean(sums >= np.abs(values.sum()) - 1e-12))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values corrected for their number; Holm (1979): the familywise error rate is kept."""
    corrected, largest = {}, 0.0
    ordered = sorted(p_values, key=lambda name: p_values[name])
    for rank, name in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p_values[name]))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}


class Share(NamedTuple):
    """A ratio of two means over seeds, with the ends of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def share_of(
    gain: Mapping[int, float], whole: Mapping[int, float], draws: int = 10_000
) -> Share | None:
    """How much of `whole` is captured by `gain`: the ratio of their means over the same seeds.

    None where the interval of the whole's mean touches 0, or a resampled one does: there is nothing
    to take a share of; and on fewer than `FEWEST_DRAWN` seeds. Numerator and denominator are
    resampled together (percentile bootstrap).
    """
    seeds = sorted(gain.keys() & whole.keys())
    part, total = (np.array([values[seed] for seed in seeds]) for values in (gain, whole))
    low = mean_of(total.tolist())[1] if len(seeds) >= FEWEST_DRAWN else None
    if low is None or low <= 0:
        return None
    chosen = np.random.default_rng(0).integers(0, len(seeds), (draws, len(seeds)))
    wholes = total[chosen].mean(1)
    if wholes.min() <= 0:
        return None
    ratios = part[chosen].mean(1) / wholes
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Share(float(part.mean() / total.mean()), float(low), float(high))
