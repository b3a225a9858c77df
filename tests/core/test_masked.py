import pytest
import torch
from torch.testing import assert_close

from sightline import keep_real, response_max, response_mean, response_min

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


@pytest.mark.parametrize("statistic", [keep_real, response_mean, response_min, response_max])
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
