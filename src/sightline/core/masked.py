"""Statistics over the real tokens of each response; whatever padding holds has no say.

Padding is replaced before any arithmetic and never multiplied away: ``NaN * 0`` is NaN (T34).
"""

from math import inf

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def check_mask(mask: Bool[Tensor, "B T"]) -> None:
    """Refuse what is not a boolean table of responses by tokens, also with annotations off."""
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be boolean, got {mask.dtype}: pass mask.bool()")
    if mask.ndim != 2:
        raise ValueError(f"mask must have two axes, (B, T), got the shape {tuple(mask.shape)}")


def keep_real(
    values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], fill: float = 0.0
) -> Float[Tensor, "B T"]:
    """``values`` on real tokens and ``fill`` on padding.

    Every masked statistic passes through here, and with it through the checks.

    Args:
        mask: True on real response tokens.
    """
    check_mask(mask)
    if values.shape != mask.shape:
        raise ValueError(
            f"values must have the shape of mask, {tuple(mask.shape)}, got {tuple(values.shape)}"
        )
    return values.masked_fill(~mask, fill)


def response_mean(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Mean over the real tokens of each response; 0 for an empty one."""
    return keep_real(values, mask).sum(1) / mask.sum(1).clamp(min=1)


def response_min(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Least value among the real tokens of each response; 0 for an empty one."""
    return keep_real(values, mask, inf).amin(1).masked_fill(~mask.any(1), 0)


def response_max(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Greatest value among the real tokens of each response; 0 for an empty one."""
    return keep_real(values, mask, -inf).amax(1).masked_fill(~mask.any(1), 0)
