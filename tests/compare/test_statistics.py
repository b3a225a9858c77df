"""Statistics over seeds, by hand."""

import numpy as np
import pytest

from sightline.compare.statistics import difference_of, holm, minus, share_of, sign_flip


def test_sign_flip_counts_patterns():
    # sums of +-1 +-2 +-3: 6, 4, 2, 0, 0, -2, -4, -6; of 8 patterns 2 are as far out as 6
    assert sign_flip([1.0, 2.0, 3.0]) == 2 / 8
    # observed 1 - 2 + 3 = 2: all but the two zeros are at least as far
    assert sign_flip([1.0, -2.0, 3.0]) == 6 / 8
    assert sign_flip([0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.4]) == 2 / 2**10


def test_sign_flip_of_many_is_drawn_and_never_0():
    assert sign_flip([1.0] * 40) == 1 / 2**16


def test_sign_flip_is_fair_under_no_difference():
    rng = np.random.default_rng(0)
    p = [sign_flip(rng.normal(size=8).tolist()) for _ in range(400)]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.045)


def test_holm_by_hand():
    # ordered: 0.01 * 4 = 0.04, 0.02 * 3 = 0.06, 0.03 * 2 = 0.06, 0.5 * 1
    found = holm({"a": 0.03, "b": 0.01, "c": 0.5, "d": 0.02})
    assert found == pytest.approx({"a": 0.06, "b": 0.04, "c": 0.5, "d": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_differences_are_paired_by_seed():
    first, second = {1: 0.6, 2: 0.9, 3: 0.5}, {3: 0.4, 2: 0.7, 1: 0.3, 9: 0.0}
    assert minus(first, second) == pytest.approx({1: 0.3, 2: 0.2, 3: 0.1})
    found = difference_of([*minus(first, second).values()])
    assert found.mean == pytest.approx(0.2) and found.p == 2 / 8
    # deviation 0.1, and t = 4.303 with 2 degrees of freedom: 0.2 ± 4.303 * 0.1 / sqrt(3)
    assert (found.low, found.high) == pytest.approx((-0.0484, 0.4484), abs=1e-4)
    found = difference_of([0.3, 0.2])
    assert found.low is None and found.high is None  # two seeds have no interval


def test_the_share_of_the_headroom():
    whole = {i: 0.1 * (i + 1) for i in range(5)}
    half = {i: whole[i] / 2 for i in reversed(range(5))}
    found = share_of(half, whole)
    assert found is not None
    # a half in every resample, because numerator and denominator are resampled together
    assert tuple(found) == pytest.approx((0.5, 0.5, 0.5))
    assert share_of(half, {**whole, 0: -2.0}) is None  # the whole may be nothing
    assert share_of({i: half[i] for i in range(4)}, whole) is None
    # the mean of the whole is above 0, but not that of every resample, and there the share is none
    assert share_of(half, dict(enumerate([0.0, 0.02, 0.03, 0.02, 0.03]))) is None
