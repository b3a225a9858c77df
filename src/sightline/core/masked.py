"""Statistics over the real tokens of each response; whatever padding holds has no say.

Padding is replaced before any arithmetic and never multiplied away: ``NaN * 0`` is NaN (T34).
"""

from math import ceil, inf, nan

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
    real = keep_real(values, mask, inf)
    least = real.amin(1) if real.shape[1] else real.sum(1)
    return least.masked_fill(~mask.any(1), 0)


def response_max(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Greatest value among the real tokens of each response; 0 for an empty one."""
    real = keep_real(values, mask, -inf)
    greatest = real.amax(1) if real.shape[1] else real.sum(1)
    return greatest.masked_fill(~mask.any(1), 0)


def response_top(
    values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], fraction: float
) -> Bool[Tensor, "B T"]:
    """True on the `share` of each response's real tokens that have its greatest values.

    Of equal values, the earlier token goes first (T28).

    Args:
        values: without NaN on real tokens.
        fraction: above 0, up to 1.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be in (0, 1], got {fraction}")
    # NaN sorts last of all, after any number that stands on a real token
    order = keep_real(-values, mask, nan).argsort(dim=1, stable=True)
    rank = order.argsort(dim=1)
    counts = [share(fraction, length) for length in mask.sum(1).tolist()]
    return rank < torch.tensor(counts, device=mask.device)[:, None]


def share(fraction: float, length: int) -> int:
    """``ceil(fraction * length)``, and at least 1 of what is not empty."""
    # rounded first: 0.07 * 100 is above 7, in float32 so is 0.6 * 25 above 15 (T29)
    return min(length, max(1, ceil(round(fraction * length, 9))))
