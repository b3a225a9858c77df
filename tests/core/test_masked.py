import pytest
import torch
from torch.testing import assert_close

from sightline import keep_real, response_max, response_mean, response_min, response_top
from sightline.core.masked import share

INF, NAN = float("inf"), float("nan")

# response   real tokens      mean   min   max
# 1          3, -1, 4          2     -1     4
# 2          -7               -7     -7    -7
# 3          none              0      0     0
VALUES = torch.tensor([[3.0, NAN, -1.0, 4.0], [INF, -7.0, -INF, 1e30], [NAN, INF, 5.0, -INF]])
MASK = torch.tensor([[1, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]]).bool()


@pytest.mark.parametrize(
    ("statistic", "expected"),
    [
        (response_mean, [2.0, -7.0, 0.0]),
        (response_min, [-1.0, -7.0, 0.0]),
        (response_max, [4.0, -7.0, 0.0]),
    ],
)
def test_statistics_see_real_tokens_only(statistic, expected):  # T34
    assert_close(statistic(VALUES, MASK), torch.tensor(expected))


def test_extrema_of_one_sign_are_not_pulled_to_zero_by_padding():
    mask = torch.tensor([[True, True, False]])
    assert response_min(torch.tensor([[2.0, 3.0, 0.0]]), mask).item() == 2
    assert response_max(torch.tensor([[-2.0, -3.0, 0.0]]), mask).item() == -2


def test_keep_real_fills_padding_and_leaves_its_input_alone():
    before = VALUES.clone()
    kept = keep_real(VALUES, MASK, fill=9.0)
    assert_close(kept, torch.tensor([[3.0, 9, -1, 4], [9, -7, 9, 9], [9, 9, 9, 9]]))
    assert_close(keep_real(VALUES, MASK)[1], torch.tensor([0.0, -7, 0, 0]))
    assert_close(VALUES, before, equal_nan=True)


def test_padding_passes_no_gradient_back():
    values = VALUES.clone().requires_grad_()
    response_mean(values, MASK).sum().backward()
    third = 1 / 3
    assert_close(values.grad, torch.tensor([[third, 0, third, third], [0, 1, 0, 0], [0.0] * 4]))


# response 1: 3, 9, -1, 9, 2   of 5 real tokens  ceil(0.4 * 5) = 2: the nines
# response 2: 0, 0, 0          ceil(0.4 * 3) = 2: the first two
# response 3: -inf, -5, inf    2: the greater two, although padding stands before them
# response 4: none
TOP_VALUES = torch.tensor(
    [[3.0, 9, -1, 9, 2], [NAN, 0, INF, 0, 0], [NAN, INF, -INF, -5, INF], [NAN, INF, 5, 0, 1]]
)
TOP_MASK = torch.tensor([[1] * 5, [0, 1, 0, 1, 1], [0, 0, 1, 1, 1], [0] * 5]).bool()


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        (0.4, [[0, 1, 0, 1, 0], [0, 1, 0, 1, 0], [0, 0, 0, 1, 1], [0] * 5]),
        # of 5: 3, of 3: 2
        (0.6, [[1, 1, 0, 1, 0], [0, 1, 0, 1, 0], [0, 0, 0, 1, 1], [0] * 5]),
        # never none; of the nines, the first
        (0.2, [[0, 1, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1], [0] * 5]),
        (1e-12, [[0, 1, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1], [0] * 5]),
        # -inf on a real token still comes before padding
        (1.0, TOP_MASK.tolist()),
    ],
)
def test_top_tokens_by_hand(fraction, expected):
    assert response_top(TOP_VALUES, TOP_MASK, fraction).equal(torch.tensor(expected).bool())


def test_of_equal_values_the_earlier_are_the_top():  # T28
    # long enough for an unstable sort to show; every third value is 1, the rest 0
    length = 3000
    values = (torch.arange(length) % 3 == 0).float()[None].expand(2, -1)
    mask = torch.ones(2, length).bool()
    ones = response_top(values, mask, 0.2)[0].nonzero()[:, 0]
    assert ones.equal(torch.arange(0, 3 * 600, 3))
    # 1000 ones, then the first 200 zeros; reversed, the last of them
    top = response_top(values, mask, 0.4)[0]
    assert top[:300].all() and top[300:].equal(values[0, 300:].bool())
    assert response_top(torch.zeros(2, length), mask, 0.3)[0].nonzero().max() == 899


def test_a_share_is_that_of_integer_arithmetic():  # T29
    assert [share(0.3, length) for length in (0, 1, 3, 4, 10, 11)] == [0, 1, 1, 2, 3, 4]
    # a rounding error is seen where the product is an integer, and nowhere else
    for length in range(8193):
        for percent in range(1, 101):
            if percent * length % 100 == 0:
                assert share(percent / 100, length) == percent * length // 100


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, NAN])
def test_a_share_of_none_or_more_than_all_raises(fraction):
    with pytest.raises(ValueError, match=rf"fraction must be in \(0, 1\], got {fraction}"):
        response_top(TOP_VALUES, TOP_MASK, fraction)


def top_half(values, mask):
    return response_top(values, mask, 0.5)


@pytest.mark.parametrize(
    "statistic", [keep_real, response_mean, response_min, response_max, top_half]
)
@pytest.mark.parametrize(
    ("values", "mask", "message"),
    [
        (torch.zeros(2), torch.ones(2, 2).bool(), r"shape of mask, \(2, 2\), got \(2,\)"),
        (torch.zeros(2, 1), torch.ones(2, 2).bool(), r"shape of mask, \(2, 2\), got \(2, 1\)"),
        (torch.zeros(2, 2), torch.ones(2), r"mask must be boolean, got torch.float32"),
        (torch.zeros(2, 2), torch.ones(2, 2).long(), r"mask must be boolean, got torch.int64"),
        (torch.zeros(2), torch.ones(2).bool(), r"mask must have two axes, \(B, T\), got .*\(2,\)"),
    ],
)
def test_wrong_shapes_and_masks_raise_in_production(
    statistic, values, mask, message, annotations_off
):
    with pytest.raises(ValueError, match=message):
        statistic(values, mask)


def test_responses_of_no_columns_have_statistics_of_0():
    none = torch.zeros(2, 0)
    for statistic in (response_mean, response_min, response_max):
        assert statistic(none, none.bool()).equal(torch.zeros(2))
