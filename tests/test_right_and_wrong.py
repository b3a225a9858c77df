"""Which answers count as right, and Cliff's delta with its interval, by hand."""

import pytest

from sightline.rewards import REWARDS
from sightline.right_and_wrong import FEWEST, VERDICTS, effect_of, is_right


@pytest.mark.parametrize(
    ("reason", "reward", "right"),
    [
        ("matched", 0.0, True),  # the verdict counts before a reward that counts form too
        ("different", 0.5, False),
        ("timed_out", 0.0, None),  # the verifier's failure says nothing of the answer
        ("", 0.1, True),
        ("", 0.0, False),
        ("", -1.0, False),
        ("", None, None),
        ("of another judge", 1.0, True),  # whose words mean nothing to us
        ("of another judge", None, None),
    ],
)
def test_a_verdict_counts_before_a_reward(reason, reward, right):
    assert is_right(reward, reason) is right


def test_verdicts_are_those_of_the_verifier():
    assert VERDICTS == {str(v): None if r is None else r > 0 for v, r in REWARDS.items()}


def test_cliffs_delta_by_hand():
    # pairs 3>1, 3>2, 2>1, 2=2: three above, none below, of four
    assert effect_of([3.0, 2.0], [1.0, 2.0]).delta == pytest.approx(0.75)
    assert effect_of([1.0, 2.0], [3.0, 2.0]).delta == pytest.approx(-0.75)
    assert effect_of([], [1.0]) is None and effect_of([1.0], []) is None


def test_too_few_have_no_interval():
    assert effect_of([1.0] * FEWEST, [0.0] * (FEWEST - 1)).interval is None
    assert effect_of([1.0] * (FEWEST - 1), [0.0] * FEWEST).interval is None
    # completely apart: every draw is
    assert effect_of([1.0] * FEWEST, [0.0] * FEWEST) == (1.0, (1.0, 1.0))


def test_the_interval_is_that_of_the_resampled_groups():
    # right is 1 five times of ten, wrong always 0: delta is the share of ones among the right; of
    # ten draws that share is binomial with a standard deviation of sqrt(0.25 / 10) = 0.158
    effect = effect_of([0.0, 1.0] * 5, [0.0] * 8)
    assert effect.delta == pytest.approx(0.5)
    low, high = effect.interval
    assert low == pytest.approx(0.5 - 1.96 * 0.158, abs=0.1)  # of whole tenths
    assert high == pytest.approx(0.5 + 1.96 * 0.158, abs=0.1)
    assert effect_of([0.0, 1.0] * 5, [0.0] * 8) == effect
