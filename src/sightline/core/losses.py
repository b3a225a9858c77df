"""The clipped policy loss of each token, and the two ways to average it."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .masked import keep_real, response_mean


def clipped_surrogate(
    log_probs: Float[Tensor, "B T"],
    old_log_probs: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B T"],
    *,
    epsilon_low: float = 0.2,
    epsilon_high: float = 0.28,
    dual_clip: float | None = None,
) -> Float[Tensor, "B T"]:
    """Clipped policy loss of each token, to be minimised.

    ``-min(r A, clip(r, 1 - epsilon_low, 1 + epsilon_high) A)`` where
    ``r = exp(log_probs - old_log_probs)``. DAPO (arXiv:2503.14476), eq. 8. The dual clip, which
    bounds the loss by ``-dual_clip A`` where ``A < 0``, is that of arXiv:1912.09729.

    Args:
        log_probs: of the sampled tokens under the policy being trained; carries the gradient.
        old_log_probs: of the same tokens under the policy that sampled them; a constant.
        advantages: a constant per token; positive makes the token likelier.
        epsilon_low: how far below 1 the ratio still counts.
        epsilon_high: how far above 1; the wider side is DAPO's "clip-higher".
        dual_clip: how large the ratio of a token with a negative advantage may get; None for any.
    """
    if not log_probs.shape == old_log_probs.shape == advantages.shape:
        raise ValueError(
            "log_probs, old_log_probs and advantages must have one shape, (B, T), got "
            f"{tuple(log_probs.shape)}, {tuple(old_log_probs.shape)}, {tuple(advantages.shape)}"
        )
    if dual_clip is not None and not dual_clip > 1:
        raise ValueError(f"dual_clip must be above 1, or None to switch it off, got {dual_clip}")
    # clipped to +-20 so that one stray token cannot overflow the whole loss
    ratio = (log_probs - old_log_probs.detach()).clamp(-20, 20).exp()
    clipped = ratio.clamp(1 - epsilon_low, 1 + epsilon_high)
    advantages = advantages.detach()
    loss = -torch.minimum(ratio * advantages, clipped * advantages)
    if dual_clip is None:
        return loss
    return torch.where(advantages < 0, torch.minimum(loss, -dual_clip * advantages), loss)


def token_mean(token_losses: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Mean over all real tokens, whatever their weight; 0 without any.

    Long responses count more. DAPO (arXiv:2503.14476), eq. 8. A mean over part of an optimiser
    batch is not a part of its mean: pass the whole batch, or weigh the parts by their tokens.
    """
    return keep_real(token_losses, mask).sum() / mask.sum().clamp(min=1)


def sequence_mean(
    token_losses: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """Mean over the non-empty responses of each one's mean over its tokens; 0 without any.

    All responses count alike. DeepSeekMath (arXiv:2402.03300), eq. 3; PGPO (arXiv:2604.01840),
    eq. 3.
    """
    return response_mean(token_losses, mask).sum() / mask.any(1).sum().clamp(min=1)
