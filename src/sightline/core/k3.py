"""The sampled KL of one token, for whichever library holds the numbers: tensors or arrays.

Training computes it in torch, the report from files in numpy: what both show must be one formula.
"""

from collections.abc import Callable
from typing import Any

LARGEST = 10.0  # nats, unless told; PGPO (arXiv:2604.01840) and VPPO (arXiv:2510.09285) clamp here


def k3(log_ratio: Any, expm1: Callable[[Any], Any], clamp: float | None = LARGEST) -> Any:
    """``min(exp(x) - 1 - x, clamp)`` of each number, at least 0.

    Args:
        log_ratio: floating-point tensor or array of any shape.
        expm1: that of the same library.
        clamp: the largest value, or None for no limit but that of clipping ``x`` to +-20, which
            only prevents overflow.
    """
    ratio = log_ratio.clip(-20, 20)
    # expm1, because exp(x) - 1 - x is 0 in float32 at x = 1e-4 (T27)
    return (expm1(ratio) - ratio).clip(0, clamp)
