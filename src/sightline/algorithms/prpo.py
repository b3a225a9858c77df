"""Our reading of PRPO (arXiv:2606.08708), whose formulas are not public.

Amplifies the advantage at tokens that depend on the image and keep their probability when the
image is a little worse, and leaves the others as they were.

Differs from the authors' code: unknown, for neither code nor equations could be obtained. The
paper's abstract gave us the two ideas and their names, robust visual dependency (RVD: grounded and
stable under perturbation) and perceptual advantage reshaping (PAR: amplify those tokens, keep the
others' gradients). Every formula, constant and switch below is ours, written from that and from
PGPO (arXiv:2604.01840). Results obtained with it are not a reproduction of the paper.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..core import keep_real, response_max, response_mean, response_min
from ..views import AddNoise, Blind, View
from .base import Algorithm, ViewScores, check_estimator, check_views

SMALLEST = 1e-6  # nats; of a dependency below it no share is taken
CHOICES = {
    "rvd_mode": ("product", "contrast"),
    "par_mode": ("boost", "conserve"),
    "mass": ("none", "batch"),
}


@dataclass(frozen=True)
class PRPO(Algorithm):
    """Weight a token up if it depends on the image and a little noise does not move it.

    Our formulation, from the paper's abstract: its formulas are not public. With ``S`` what
    removing the image changes about a token and ``U`` what perturbing it does, in nats:

    | ``G``: ``log(1 + S)`` above the response's least, over its range or ``range_floor``
    | ``R = exp(-U / stability_scale) max(0, 1 - U / S)``
    | ``w = 1 + boost max(0, G R - threshold) / (1 - threshold)``

    Every other token weighs exactly 1. The mean weight is therefore above 1 and differs between
    responses: log it. A response of one token, of equal ``S`` or without an image is plain GRPO,
    and so is a "perturbed" view that removes the image. Other responses do not matter, except
    for ``mass``.

    Args:
        threshold: robust dependency ``G R``, from 0 to 1, up to which a token is left as it was.
        boost: how much more than 1 a token of robust dependency 1 weighs.
        stability_scale: ``U`` that scales a token down to ``1 / e``; infinite for ``1 - U / S``
            alone.
        range_floor: the least range of ``log(1 + S)`` taken for all there is, so that a response
            that hardly used the image has no dependent token (T24). The default is ``S = 1``.
        estimator: ``"k3"`` for sampled dependencies, ``"kl"`` for exact ones.
        support_rule: ``S`` is 0 where removing the image made the token likelier, which the
            sampled dependency scores highest (T26); exact ones have no sign.
        score_clamp: the largest dependency, in nats, or None for no limit.
        rvd_mode: ``"product"`` as above; ``"contrast"`` for ``R = max(0, S - U) / (S + U)``, which
            has no scale but lets a strongly dependent token pass although noise moved it.
        par_mode: ``"boost"`` as above; ``"conserve"`` also lowers tokens under the threshold, to
            ``G R / threshold`` but not under ``weight_floor``, and rescales each response to
            mean 1.
        mass: ``"batch"`` divides the weights by their mean over all tokens of the batch but those
            of rows without an image, which keep 1; ``"none"`` does not.
        weight_floor: the least weight before rescaling, for ``"conserve"``.
        noise_std: of the noise that perturbs the image; mild, or no token is stable.
    """

    threshold: float = 0.3
    boost: float = 2.0
    stability_scale: float = 0.5
    range_floor: float = log(2)
    estimator: str = "k3"
    support_rule: bool = True
    score_clamp: float | None = 10.0
    rvd_mode: str = "product"
    par_mode: str = "boost"
    mass: str = "none"
    weight_floor: float = 0.5
    noise_std: float = 0.1

    def __post_init__(self):
        check_estimator(self.estimator, self.score_clamp)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        if not 0 <= self.threshold < 1:
            raise ValueError(f"threshold must be in [0, 1), got {self.threshold}")
        if self.par_mode == "conserve" and self.threshold == 0:
            raise ValueError("threshold must be above 0 with par_mode 'conserve', got 0")
        if not 0 <= self.boost < float("inf"):
            raise ValueError(f"boost must be at least 0 and finite, got {self.boost}")
        if not self.stability_scale > 0:
            raise ValueError(f"stability_scale must be above 0, got {self.stability_scale}")
        if not 0 < self.range_floor < float("inf"):
            raise ValueError(f"range_floor must be above 0 and finite, got {self.range_floor}")
        if not 0 < self.noise_std < float("inf"):
            raise ValueError(f"noise_std must be above 0 and finite, got {self.noise_std}")
        if not 0 < self.weight_floor <= 1:
            raise ValueError(f"weight_floor must be in (0, 1], got {self.weight_floor}")

    def views(self) -> Mapping[str, View]:
        return {"blind": Blind(), "noise": AddNoise(self.noise_std)}

    @property
    def needs_exact_kl(self) -> bool:
        return self.estimator == "kl"

    @property
    def row_local(self) -> bool:
        return self.mass == "none"

    def token_weights(
        self, scores: Mapping[str, ViewScores], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        check_views(scores, self.views())
        removed, perturbed = (
            scores[name].dependency(mask, self.estimator, self.score_clamp)
            for name in ("blind", "noise")
        )
        grounding = removed
        if self.support_rule and self.estimator == "k3":
            grounding = removed.masked_fill(scores["blind"].log_ratio >= 0, 0)
        robust = self._grounded(grounding, mask) * self._stable(grounding, perturbed)
        weights = self._reshape(robust, mask)
        if self.mass == "batch":
            exact = self.needs_exact_kl
            has_image = scores["blind"].scored_rows(mask, exact)
            has_image = has_image | scores["noise"].scored_rows(mask, exact)
            counted = mask & has_image[:, None]
            weights = torch.where(counted, weights / weights[counted].mean(), 1.0)
        return keep_real(weights, mask)

    def _grounded(
        self, dependency: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        """``G``, in [0, 1]: PGPO's importance, eq. 4 and 5 there, over a range with a floor."""
        log_scores = dependency.log1p()
        least = response_min(log_scores, mask)[:, None]
        spread = response_max(log_scores, mask)[:, None] - least
        return (log_scores - least) / spread.clamp(min=self.range_floor)

    def _stable(
        self, dependency: Float[Tensor, "B T"], instability: Float[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        """``R``, in [0, 1]: 0 where noise moves a token as much as removing the image does."""
        if self.rvd_mode == "contrast":
            surplus = (dependency - instability).clamp(min=0)
            return surplus / (dependency + instability + SMALLEST)
        surviving = (1 - instability / dependency.clamp(min=SMALLEST)).clamp(min=0)
        return (-instability / self.stability_scale).exp() * surviving

    def _reshape(
        self, robust: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        """Weights from robust dependencies: ``1 + boost`` at 1, 1 at the threshold."""
        raised = self.boost * (robust - self.threshold).clamp(min=0) / (1 - self.threshold)
        if self.par_mode == "boost":
            return 1 + raised
        floor = self.weight_floor
        above = raised + (robust / self.threshold - floor).clamp(0, 1 - floor)
        # the floor comes in last: a response that is all floor then weighs 1 without a rounding
        return (floor + above) / (floor + response_mean(above, mask)[:, None])
