import math

import pytest
import torch
from torch.testing import assert_close

from sightline import group_advantages


def test_group_advantages_by_hand():  # T47
    # R - mean   0.475     -0.425     0.475     -0.525       mean 0.525
    # std        sqrt(0.9075 / 3) = 0.55; over 4, the population form, 0.476314
    # A          0.863635  -0.772726   0.863635  -0.954544   the population form gives 0.997239 ...
    # second group 2, 2, 2, 10: mean 4, std sqrt((3 * 4 + 36) / 3) = 4, A = -0.5, -0.5, -0.5, 1.5
    rewards = torch.tensor([1.0, 0.1, 1.0, 0.0, 2.0, 2.0, 2.0, 10.0])
    expected = [0.863635, -0.772726, 0.863635, -0.954544, -0.5, -0.5, -0.5, 1.5]
    assert_close(group_advantages(rewards, 4), torch.tensor(expected))


def test_epsilon_is_added_to_the_deviation():
    # R = 0, 2: std sqrt(2), A = -+1 / (sqrt(2) + 0.5)
    advantages = group_advantages(torch.tensor([0.0, 2.0]), 2, epsilon=0.5)
    step = 1 / (math.sqrt(2) + 0.5)
    assert_close(advantages, torch.tensor([-step, step]))


@pytest.mark.parametrize("reward", [0.1, 0.9, 1 / 3, 1.0, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_rewards_teach_exactly_nothing(reward, dtype):  # T46
    for group_size in range(1, 17):
        rewards = torch.full((2 * group_size,), reward, dtype=dtype)
        assert (group_advantages(rewards, group_size) == 0).all()


def test_equal_rewards_teach_something_without_the_guard():  # T46, the control (T88)
    # eight rewards of 0.9 summed one after the other in float32: the mean is off by its last digit
    rewards = torch.full((8,), 0.9)
    mean = sum(rewards, torch.tensor(0.0)) / 8
    deviation = ((rewards - mean).square().sum() / 7).sqrt()
    assert_close(
        (rewards - mean) / (deviation + 1e-6), torch.full((8,), -0.0560), rtol=0, atol=1e-4
    )


def test_a_group_of_one_teaches_nothing():
    assert group_advantages(torch.tensor([0.3, -5.0, 1e6]), 1).tolist() == [0, 0, 0]


def test_statistics_are_taken_in_float64():
    # differences near the last digit of float32, where its own mean would be rounded away
    rewards = 1000 + torch.tensor([0.0, 0.0001, 0.0002, 0.0003, 0.0004])
    exact = rewards.double()
    exact = (exact - exact.mean()) / (exact.std() + 1e-6)
    advantages = group_advantages(rewards, 5)
    assert_close(advantages, exact.float())
    assert advantages.dtype == group_advantages(rewards.double(), 5).dtype == torch.float32


def test_shifting_or_scaling_rewards_changes_nothing():
    rewards = torch.rand(6)
    expected = group_advantages(rewards, 3, epsilon=0.0)
    assert_close(group_advantages(rewards * 8 + 3, 3, epsilon=0.0), expected)
    assert_close(expected.view(2, 3).mean(1), torch.zeros(2))
    assert_close(expected.view(2, 3).std(1), torch.ones(2))


@pytest.mark.parametrize(
    ("rewards", "group_size", "message"),
    [
        (torch.zeros(6), 4, "group_size must divide the number of rewards, 6, got 4"),
        (torch.zeros(6), 0, "group_size must divide the number of rewards, 6, got 0"),
        (torch.zeros(2, 3), 3, r"one per response, \(B,\), got \(2, 3\)"),
        (torch.tensor([1.0, float("nan")]), 2, "rewards must be finite, got nan"),
        (torch.tensor([1.0, float("inf")]), 2, "rewards must be finite, got inf"),
    ],
)
def test_rewards_that_form_no_groups_raise(rewards, group_size, message, annotations_off):
    with pytest.raises(ValueError, match=message):
        group_advantages(rewards, group_size)
