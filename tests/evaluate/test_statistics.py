"""pass@k, majority votes and McNemar's test against numbers worked by hand."""

import pytest

from sightline.evaluate import majority_accuracy, mcnemar, pass_at_k


@pytest.mark.parametrize(
    ("n", "right", "k", "expected"),
    [
        (4, 1, 2, 1 / 2),  # 3 of the 6 pairs leave the right one out; 1 - (3/4)^2 would be 7/16
        (4, 2, 2, 5 / 6),  # one pair of 6 holds neither
        (8, 3, 1, 3 / 8),
        (5, 3, 3, 1.0),  # only two are wrong
        (8, 0, 8, 0.0),
        (8, 1, 8, 1.0),
    ],
)
def test_pass_at_k_by_hand(n, right, k, expected):
    assert pass_at_k(n, right, k) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "right", "k"), [(4, 5, 1), (4, -1, 1), (4, 1, 5), (4, 1, 0)])
def test_pass_at_k_refuses_what_cannot_be_drawn(n, right, k):
    with pytest.raises(ValueError, match=f"got n={n}, right={right}, k={k}"):
        pass_at_k(n, right, k)


@pytest.mark.parametrize(
    ("votes", "right", "expected"),
    [
        ([0, 0, 1], [True, True, False], 1.0),
        ([0, 1, 1], [True, False, False], 0.0),
        ([0, 0, 1, 1, 2], [True, True, False, False, False], 0.5),  # a coin between 0 and 1
        ([0, 1, 2, 3], [True, False, False, False], 0.25),
        ([0, None, None], [True, False, False], 1.0),  # who says nothing does not vote
        ([None, None], [False, False], 0.0),
        ([0, 0, 0], [True, True, False], 2 / 3),  # one answer, of which two samples were accepted
    ],
)
def test_majority_votes_by_hand(votes, right, expected):
    assert majority_accuracy(votes, right) == pytest.approx(expected)


def test_mcnemar_by_hand():
    # both 2, neither 1, first alone 1, second alone 5: of 6 coins at most one falls on a side in
    # 1 + 6 of 64 cases, and as often on the other: p = 14 / 64
    first = [True, True, False, True, *[False] * 5]
    second = [True, True, False, False, *[True] * 5]
    assert mcnemar(first, second) == (1, 5, 14 / 64)
    assert mcnemar(second, first) == (5, 1, 14 / 64)
    assert mcnemar([True] * 3, [True] * 3) == (0, 0, 1.0)
    # 2 and 2: 2 * (1 + 4 + 6) / 16 is more than 1
    assert mcnemar([True, True, False, False], [False, False, True, True]) == (2, 2, 1.0)
    # as exact for many: 2 * 2^-2000 is below what a float holds, and is 0 without an error
    assert mcnemar([True] * 2000, [False] * 2000)[2] == 0.0
    with pytest.raises(ValueError):
        mcnemar([True], [True, False])
