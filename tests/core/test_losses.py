import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from sightline import clipped_surrogate, sequence_mean, token_mean

NAN = float("nan")


def test_clipped_surrogate_by_hand():  # T78
    # ratio r       1.6    0.4    1.6    0.4
    # advantage A   + 1    + 1    - 1    - 1
    # clipped c     1.3    0.8    1.3    0.8     r clipped to [1 - 0.2, 1 + 0.3]
    # min(rA, cA)   1.3    0.4   -1.6   -0.8
    log_probs = torch.tensor([[1.6, 0.4, 1.6, 0.4]]).log().requires_grad_()
    old_log_probs = torch.zeros(1, 4, requires_grad=True)
    advantages = torch.tensor([[1.0, 1.0, -1.0, -1.0]], requires_grad=True)

    loss = clipped_surrogate(
        log_probs, old_log_probs, advantages, epsilon_low=0.2, epsilon_high=0.3
    )
    loss.sum().backward()

    assert_close(loss, torch.tensor([[-1.3, -0.4, 1.6, 0.8]]))
    # where the clip won, nothing is left to learn; elsewhere d loss / d log p = -r A
    assert_close(log_probs.grad, torch.tensor([[0.0, -0.4, 1.6, 0.0]]))
    assert old_log_probs.grad is None and advantages.grad is None


def test_default_clip_is_that_of_dapo():
    # r            2      0.5
    # A            3     -5
    # clipped      1.28   0.8
    ratio = torch.tensor([[2.0, 0.5]])
    loss = clipped_surrogate(ratio.log(), torch.zeros(1, 2), torch.tensor([[3.0, -5.0]]))
    assert_close(loss, torch.tensor([[-3.84, 4.0]]))


def test_dual_clip_bounds_what_a_bad_token_costs():  # T72
    # r                 4      4     2.2    1      0.5
    # A                 2     -2    -2     -2     -2
    # without           -2.56  8     4.4    2      1.6     (1.28 and 0.8 clip the first and last)
    # with 2.5: -2.5 A          5     5      5      5      the smaller counts, and only where A < 0
    # with              -2.56  5     4.4    2      1.6
    ratio = torch.tensor([[4.0, 4.0, 2.2, 1.0, 0.5]])
    log_probs = ratio.log().requires_grad_()
    advantages = torch.tensor([[2.0, -2.0, -2.0, -2.0, -2.0]])
    loss = clipped_surrogate(log_probs, torch.zeros(1, 5), advantages, dual_clip=2.5)
    loss.sum().backward()
    assert_close(loss, torch.tensor([[-2.56, 5.0, 4.4, 2.0, 1.6]]))
    assert_close(log_probs.grad, torch.tensor([[0.0, 0.0, 4.4, 2.0, 0.0]]))
    without = clipped_surrogate(log_probs, torch.zeros(1, 5), advantages)
    assert_close(without, torch.tensor([[-2.56, 8.0, 4.4, 2.0, 1.6]]))


def test_ratio_is_that_of_new_to_old():
    loss = clipped_surrogate(torch.tensor([[-1.0]]), torch.tensor([[-0.9]]), torch.tensor([[1.0]]))
    assert_close(loss, -torch.tensor([[-0.1]]).exp())


def test_a_stray_token_does_not_overflow():
    # the log-ratio is clipped to +-20
    log_probs = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = clipped_surrogate(log_probs, torch.zeros(1, 2), torch.tensor([[-1.0, 1.0]]))
    loss.sum().backward()
    assert_close(loss, torch.tensor([[485165195.4, -2.0611536e-9]]))
    assert log_probs.grad.isfinite().all()


@given(st.integers(0, 2**32), st.sampled_from([None, 1.5, 3.0]))
def test_weighting_the_advantage_is_weighting_the_loss(seed, dual_clip):
    generator = torch.Generator().manual_seed(seed)
    log_probs, old_log_probs, advantages = torch.randn(3, 20, 5, generator=generator).unbind()
    weights = 5 * torch.rand(20, 5, generator=generator)
    weights[::3] = 0
    weighted = clipped_surrogate(
        log_probs, old_log_probs, weights * advantages, dual_clip=dual_clip
    )
    plain = clipped_surrogate(log_probs, old_log_probs, advantages, dual_clip=dual_clip)
    assert_close(weighted, weights * plain)


def test_means_by_hand():
    # response   losses       mean
    # 1          3, -1, 4      2
    # 2          -6           -6
    # 3          none          -
    # over 4 tokens: 0 / 4 = 0;  over 2 responses: -4 / 2 = -2
    losses = torch.tensor([[3.0, -1.0, 4.0], [NAN, -6.0, 8.0], [NAN, 1.0, 1.0]], requires_grad=True)
    mask = torch.tensor([[1, 1, 1], [0, 1, 0], [0, 0, 0]]).bool()
    assert_close(token_mean(losses, mask), torch.tensor(0.0))
    assert_close(sequence_mean(losses, mask), torch.tensor(-2.0))

    (grad,) = torch.autograd.grad(token_mean(losses, mask), losses)
    assert_close(grad, mask / 4)
    (grad,) = torch.autograd.grad(sequence_mean(losses, mask), losses)
    sixth = 1 / 6
    assert_close(grad, torch.tensor([[sixth] * 3, [0, 0.5, 0], [0.0] * 3]))


def test_tokens_of_weight_zero_stay_in_the_denominator():  # T32
    # a filter kept 4 of 8 tokens, f = -0.921600, -0.651483, 0.972550, 2.640000
    # sum 2.039467; over all 8 tokens 0.254933, over the 4 kept ones it would be 0.509867
    # per response: -1.573083 / 5 and 3.612550 / 3, mean 0.444783
    losses = torch.tensor(
        [[0.0, -0.921600, 0.0, -0.651483, 0.0], [0.0, 0.972550, 2.640000, 7.0, 7.0]]
    )
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    assert_close(token_mean(losses, mask), torch.tensor(0.254933))
    assert_close(sequence_mean(losses, mask), torch.tensor(0.444783))


@pytest.mark.parametrize("mean", [token_mean, sequence_mean])
def test_without_real_tokens_the_loss_is_zero(mean):
    losses = torch.full((2, 3), NAN, requires_grad=True)
    loss = mean(losses, torch.zeros(2, 3).bool())
    loss.backward()
    assert loss.item() == 0
    assert (losses.grad == 0).all()


def test_wrong_shapes_raise_in_production(annotations_off):  # T33, T85
    # with B = T an advantage per response would broadcast along the wrong axis
    square, per_response = torch.zeros(3, 3), torch.zeros(3)
    for arguments in ([square, square, per_response], [square, per_response, square]):
        with pytest.raises(ValueError, match=r"one shape, \(B, T\), got .*\(3,\)"):
            clipped_surrogate(*arguments)
    for mean in (token_mean, sequence_mean):
        with pytest.raises(ValueError, match=r"shape of mask, \(3, 3\), got \(3,\)"):
            mean(per_response, square.bool())
        with pytest.raises(ValueError, match="mask must be boolean"):
            mean(square, square)


@pytest.mark.parametrize("dual_clip", [1.0, 0.2, -3.0, NAN])
def test_a_dual_clip_that_would_stop_learning_raises(dual_clip):
    with pytest.raises(ValueError, match=f"dual_clip must be above 1.* got {dual_clip}"):
        clipped_surrogate(*torch.zeros(3, 1, 1), dual_clip=dual_clip)
