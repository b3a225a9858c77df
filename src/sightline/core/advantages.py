"""How much better each response did than the other responses to its prompt."""

from jaxtyping import Float
from torch import Tensor


def group_advantages(
    rewards: Float[Tensor, " B"], group_size: int, epsilon: float = 1e-6
) -> Float[Tensor, " B"]:
    """Reward of each response in standard deviations above its group's mean; float32.

    ``(R - mean R) / (std R + epsilon)`` with the n - 1 form of std (T47), and exactly 0 where all
    rewards of a group are equal or the group is a single response. PGPO (arXiv:2604.01840), eq. 2,
    which writes no epsilon; DeepSeekMath (arXiv:2402.03300), section 4.1.2.

    Args:
        rewards: the responses to one prompt are neighbours.
        group_size: responses per prompt.
        epsilon: added to the standard deviation.
    """
    if rewards.ndim != 1:
        raise ValueError(f"rewards must be one per response, (B,), got {tuple(rewards.shape)}")
    if group_size < 1 or len(rewards) % group_size:
        raise ValueError(
            f"group_size must divide the number of rewards, {len(rewards)}, got {group_size}"
        )
    if not rewards.isfinite().all():
        strange = rewards[~rewards.isfinite()][0].item()
        raise ValueError(f"rewards must be finite, got {strange}: replace or drop the response")
    groups = rewards.double().view(-1, group_size)
    above = groups - groups.mean(1, keepdim=True)
    deviation = (above.square().sum(1, keepdim=True) / max(group_size - 1, 1)).sqrt()
    # equal rewards leave a rounding error in `above`, which epsilon = 1e-6 would blow up (T46)
    equal = groups.amax(1, keepdim=True) == groups.amin(1, keepdim=True)
    return (above / (deviation + epsilon)).masked_fill(equal, 0).view(-1).float()
