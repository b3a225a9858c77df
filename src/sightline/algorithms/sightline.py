"""Sightline's own rule, from what goes wrong with the published ones on tasks of known words.

Moves a response's advantage to its image-dependent tokens only as far as enough tokens still count,
and asks for dependency on what the image shows, not on there being one.

No paper's. Where it comes from and what it did: docs/evidence.md. What it changes, and why:

* The other view is a flat grey picture in the image's place. Without any image a model may fall
  into another way of writing, which moves words that have nothing to read.
* The exact KL, and not an estimate from the one token sampled.
* No min-max and no gate: dependency counts by itself, above a noise floor in nats, so that a
  response that hardly used its image keeps plain credit instead of having its noise stretched.
* A bound on concentration: however few tokens depend on the image, ``effective_share`` of a
  response's tokens still count, in the sense of ``(sum w)^2 / sum w^2``, and the words around keep
  some of the credit.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..core import keep_real, response_mean
from ..views import AddNoise, Blind, Gray, View
from .base import Algorithm, ViewScores, check_estimator, check_views

FLAT = 1e-10  # variance of v that rounding makes of equal dependencies, and more
VIEWS: dict[str, View] = {"gray": Gray(), "blind": Blind(), "noise": AddNoise(1.0)}


@dataclass(frozen=True)
class Sightline(Algorithm):
    """Blend uniform credit with credit by dependency, as far as a bound on concentration allows.

    With ``S`` the dependency of a token in nats and ``v = log(1 + max(0, S - noise_floor))`` over
    its mean in the response,

    | ``w = 1 + a (v - 1)``, ``a = min(1, sqrt((1 / effective_share - 1) / var(v)))``

    ``mean(w^2)`` is ``1 + a^2 var(v)``, so ``a`` is the largest blend up to 1 that leaves
    ``1 / mean(w^2)`` at ``effective_share`` or above. The mean weight of a response is 1 and no
    weight is below ``1 - a``. A response without a dependency above the noise is plain GRPO.

    Args:
        effective_share: of a response's tokens that must still count, above 0; 1 is plain GRPO.
        noise_floor: of a dependency, in nats; what lies below counts as 0.
        hide: what is in the image's place: `gray`, a flat grey picture; `noise`, the picture under
            noise of one standard deviation of its range; `blind`, nothing.
        estimator: `kl` for the exact dependency, `k3` for the sampled one.
        score_clamp: the largest dependency, in nats, or None for no limit.
    """

    effective_share: float = 0.25
    noise_floor: float = 1e-3
    hide: str = "gray"
    estimator: str = "kl"
    score_clamp: float | None = 10.0

    def __post_init__(self):
        check_estimator(self.estimator, self.score_clamp)
        if not 0 < self.effective_share <= 1:
            raise ValueError(f"effective_share must be in (0, 1], got {self.effective_share}")
        if not 0 <= self.noise_floor < float("inf"):
            raise ValueError(f"noise_floor must be at least 0 and finite, got {self.noise_floor}")
        if self.hide not in VIEWS:
            raise ValueError(f"hide must be one of {', '.join(VIEWS)}, got {self.hide!r}")

    def views(self) -> Mapping[str, View]:
        return {self.hide: VIEWS[self.hide]}

    @property
    def needs_exact_kl(self) -> bool:
        return self.estimator == "kl"

    @property
    def row_local(self) -> bool:
        return True

    def token_weights(
        self, scores: Mapping[str, ViewScores], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        check_views(scores, self.views())
        dependency = scores[self.hide].dependency(mask, self.estimator, self.score_clamp)
        gains = keep_real((dependency - self.noise_floor).clamp(min=0).log1p(), mask)
        mean = response_mean(gains, mask)[:, None]
        surplus = torch.where(mean > 0, gains / mean.clamp(min=1e-12) - 1, 0.0)
        variance = response_mean(surplus.square(), mask)[:, None]
        most = (1 / self.effective_share - 1) / variance.clamp(min=FLAT)
        blend = torch.where(variance > FLAT, most.sqrt().clamp(max=1), 0.0)
        return keep_real(1 + blend * surplus, mask)
