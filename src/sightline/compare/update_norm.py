"""Updates of equal length, for the question whether a rule's gain is more than a longer step."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class EqualNormAdamW(torch.optim.AdamW):
    """AdamW whose every update of all weights together has the same length.

    Adam's own length hangs on how noisy the gradients are, and so on the rule. The learning rate's
    schedule scales the length as it would scale the step.

    Args:
        norm: the length, as a Euclidean norm, at the first learning rate.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, norm: float):
        super().__init__(parameters, lr=lr, weight_decay=0.0)
        self.norm, self.first = norm, lr

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        moved = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        before = [p.detach().clone() for p in moved]
        loss = super().step(closure)
        changes = [p - old for p, old in zip(moved, before, strict=True)]
        length = torch.linalg.vector_norm(torch.stack([_norm(change) for change in changes]))
        if length > 0:
            wanted = self.norm * self.param_groups[0]["lr"] / self.first
            for p, old, change in zip(moved, before, changes, strict=True):
                p.copy_(old + change * (wanted / length))
        return loss


def _norm(tensor: Tensor) -> Tensor:
    return torch.linalg.vector_norm(tensor.float())
