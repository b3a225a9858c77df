"""PGPO (arXiv:2604.01840).

Moves each response's advantage from the tokens that ignore the image to those that depend on it,
and keeps its sum.

Differs from the authors' code: none is published, so the differences are from the paper. The paper
defines the score as an exact KL (eq. 1) and runs the one-sample estimate (App. A.1), which is the
default here and ``estimator="kl"`` the other. It gives its small constant no value (ours: 1e-8),
mentions no clamp (ours: 10, so that one token the image made unlikely cannot set the scale of a
whole response) and does not say whose policy scores (ours: the one that sampled). Where all scores
of a response are equal its eq. 7 is 0/0; the weights are then 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, inf

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..core import keep_real, response_max, response_mean, response_min
from ..views import Blind, View
from .base import Algorithm, ViewScores, check_estimator, check_views

EPSILON = 1e-8


@dataclass(frozen=True)
class PGPO(Algorithm):
    """Weight a token by how much more it depends on the image than the rest of its response.

    The least dependent token of a response weighs 0 (with a threshold above 0), a token at the
    threshold 1, the most dependent ``1 + boost``, before all are rescaled to mean 1. A weight is
    bounded by the response's length and by nothing else (T25). A response of one token, of equal
    scores or without an image is plain GRPO. Other responses do not matter.

    Args:
        threshold: importance, between the response's least (0) and most (1) dependent token, from
            which a token is boosted; the paper's tau.
        boost: how much more than a token at the threshold the most dependent one weighs; the
            paper's beta.
        estimator: ``"k3"`` for the sampled dependency, ``"kl"`` for the exact one.
        score_clamp: the largest dependency, in nats, or None for no limit.
        min_range: spread of ``log(1 + dependency)`` up to which a response counts as all equal. The
            default removes exact ties only; about 1e-2 where bf16 logits cannot be avoided (T24).
        conserve_mass: rescale the weights of each response to mean 1, eq. 7.
        quantile: take for threshold the importance below which this share of the response's tokens
            lies. Not in the paper: a development version of the authors' is said to do so, with
            ``weight_floor=0.1`` and without eq. 7; we could not verify it.
        weight_floor: the least weight before rescaling; above 0, every token learns.
    """

    threshold: float = 0.4
    boost: float = 2.0
    estimator: str = "k3"
    score_clamp: float | None = 10.0
    min_range: float = 1e-6
    conserve_mass: bool = True
    quantile: bool = False
    weight_floor: float = 0.0

    def __post_init__(self):
        check_estimator(self.estimator, self.score_clamp)
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}")
        if not 0 <= self.boost < float("inf"):
            raise ValueError(f"boost must be at least 0 and finite, got {self.boost}")
        if not 0 <= self.weight_floor <= 1:
            raise ValueError(f"weight_floor must be in [0, 1], got {self.weight_floor}")
        if not self.min_range >= 0:
            raise ValueError(f"min_range must be at least 0, got {self.min_range}")

    def views(self) -> Mapping[str, View]:
        return {"blind": Blind()}

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
        dependency = scores["blind"].dependency(mask, self.estimator, self.score_clamp)
        log_scores = dependency.log1p()  # eq. 4
        least = response_min(log_scores, mask)[:, None]
        spread = response_max(log_scores, mask)[:, None] - least
        importance = (log_scores - least) / (spread + EPSILON)  # eq. 5
        weights = self._gate(importance, self._thresholds(importance, mask))
        if self.conserve_mass:
            weights = weights / response_mean(weights, mask)[:, None]  # eq. 7
        weights = torch.where(spread > self.min_range, weights, 1.0)
        return keep_real(weights, mask)

    def _thresholds(
        self, importance: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B 1"]:
        """The importance from which a token of each response is boosted."""
        if not self.quantile or not importance.shape[1]:
            return importance.new_full((len(importance), 1), self.threshold)
        ascending = keep_real(importance, mask, inf).sort(1).values
        place = [min(floor(round(n * self.threshold, 9)), n - 1) for n in mask.sum(1).tolist()]
        return ascending.gather(1, torch.tensor(place, device=mask.device).clamp(min=0)[:, None])

    def _gate(
        self, importance: Float[Tensor, "B T"], threshold: Float[Tensor, "B 1"]
    ) -> Float[Tensor, "B T"]:
        """0 at importance 0, 1 at the threshold, ``1 + boost`` at 1, linear between; eq. 6."""
        suppressed = (importance / (threshold + EPSILON)).clamp(min=self.weight_floor)
        boosted = 1 + self.boost * (importance - threshold) / (1 - threshold + EPSILON)
        return torch.where(importance < threshold, suppressed, boosted)
