"""Which answers are right, and how far right and wrong ones lie apart: for score and report alike.

Needs nothing but numpy, so that a report can be made where nothing else is installed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FEWEST = 5  # a group of fewer says nothing about how its values spread
DRAWS = 1_000  # of a bootstrap
# splits that numbers are of where a run holds others too: responses of training, or to another
# row's image (`sightline eval --image other`), say nothing of what held-out answers depend on
COUNTED = ("heldout", "true image")
# what a verifier says of an answer, and what that makes it; None for its own failures
VERDICTS = {
    "matched": True,
    "different": False,
    "no_answer": False,
    "unparseable": False,
    "timed_out": None,
    "raised": None,
}


class Effect(NamedTuple):
    """How much larger the values of right answers are than those of wrong ones.

    Args:
        delta: Cliff's: P(right > wrong) - P(right < wrong), from -1 to 1; 0 is no difference.
        interval: of 95 %, or None where a group has fewer than `FEWEST` values.
    """

    delta: float
    interval: tuple[float, float] | None


def is_right(reward: float | None, reason: str = "") -> bool | None:
    """Whether an answer counts as right; None for one that was not judged.

    By the verifier's verdict where there is one, as a reward may count form too; by a reward above
    0 where there is none, or where the reason is another judge's.
    """
    if reason in VERDICTS:
        return VERDICTS[reason]
    return None if reward is None else reward > 0


def effect_of(right: Sequence[float], wrong: Sequence[float]) -> Effect | None:
    """Cliff's delta (Cliff 1993) of right against wrong answers; None unless there are both.

    The interval resamples each group, with a fixed seed: the same values give the same numbers.
    """
    if not right or not wrong:
        return None
    values = np.concatenate([np.asarray(group, dtype=float) for group in (right, wrong)])
    # equal values share a place, and count half for either side
    _, places = np.unique(values, return_inverse=True)
    one, other = places[: len(right)], places[len(right) :]
    count = int(places.max()) + 1
    delta = _delta(np.bincount(one, minlength=count), np.bincount(other, minlength=count))
    if min(len(right), len(wrong)) < FEWEST:
        return Effect(delta, None)
    random = np.random.default_rng(0)
    drawn = [
        _delta(*(np.bincount(random.choice(g, g.size), minlength=count) for g in (one, other)))
        for _ in range(DRAWS)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Effect(delta, (float(low), float(high)))


def _delta(right: NDArray[np.int64], wrong: NDArray[np.int64]) -> float:
    """From how many values of each group lie at each place."""
    below, above = np.cumsum(wrong) - wrong, wrong.sum() - np.cumsum(wrong)
    return float((right * (below - above)).sum() / (right.sum() * wrong.sum()))
