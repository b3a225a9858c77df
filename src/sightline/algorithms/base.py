"""What a paper may change: the views it compares, and the weight it gives each token."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..core import keep_real, sampled_kl
from ..core.masked import check_mask
from ..views import View

ESTIMATORS = ("k3", "kl")


@dataclass(frozen=True, eq=False)
class ViewScores:
    """What one view changes about a response, per token, under the policy that sampled it.

    Args:
        log_ratio: ``log p(y | view) - log p(y | image)`` in nats; negative where the image helped.
        kl: exact ``KL(p(. | image) || p(. | view))`` in nats, or None if only ``y`` was scored.
    """

    log_ratio: Float[Tensor, "B T"]
    kl: Float[Tensor, "B T"] | None = None

    def __post_init__(self):
        for name, table in (("log_ratio", self.log_ratio), ("kl", self.kl)):
            if not (torch.is_tensor(table) or (name == "kl" and table is None)):
                raise ValueError(f"{name} must be a tensor, (B, T), got a {type(table).__name__}")
        if self.log_ratio.ndim != 2:
            raise ValueError(
                f"log_ratio must be one per token, (B, T), got {tuple(self.log_ratio.shape)}"
            )
        if self.kl is not None and self.kl.shape != self.log_ratio.shape:
            raise ValueError(
                f"kl must have the shape of log_ratio, {tuple(self.log_ratio.shape)}, "
                f"got {tuple(self.kl.shape)}"
            )

    def select(self, rows: Tensor | Sequence[int] | slice) -> "ViewScores":
        """The scores of these responses."""
        return ViewScores(self.log_ratio[rows], None if self.kl is None else self.kl[rows])

    def dependency(
        self, mask: Bool[Tensor, "B T"], estimator: str = "k3", clamp: float | None = 10.0
    ) -> Float[Tensor, "B T"]:
        """How much each token depends on what the view hides, in nats: a constant, at least 0.

        0 on padding, and 0 where the score is NaN (``not_finite`` tells where). A row without
        an image was given scores of exactly 0 and so has no dependency anywhere.

        Args:
            mask: True on real response tokens.
            estimator: ``"k3"`` reads ``log_ratio`` through ``sampled_kl``, ``"kl"`` reads ``kl``.
            clamp: the largest score, or None for no limit; an infinite ``kl`` then raises.
        """
        check_estimator(estimator, clamp)
        if estimator == "k3":
            scores = sampled_kl(self.log_ratio.detach(), clamp)
        elif self.kl is None:
            raise ValueError(
                "estimator 'kl' needs exact scores, got kl=None: ask the scorer for kl"
            )
        else:
            scores = self.kl.detach().float().clamp(min=0, max=clamp)
        scores = keep_real(scores, mask)
        scores = scores.masked_fill(scores.isnan(), 0)
        if scores.isinf().any():
            raise ValueError("kl must be finite without a clamp, got inf: set score_clamp")
        return scores

    def scored_rows(self, mask: Bool[Tensor, "B T"], exact: bool) -> Bool[Tensor, " B"]:
        """Which responses have any score: all that have an image, for without one it is exactly 0.

        Args:
            exact: whether `kl` is read as well.
        """
        scored = self.log_ratio.abs() > 0  # False for NaN
        if exact and self.kl is not None:
            scored = scored | (self.kl.abs() > 0)
        return (scored & mask).any(1)

    def not_finite(self, mask: Bool[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
        """Real tokens with a score that is NaN, and counts as 0, or infinite, and is clamped."""
        broken = ~self.log_ratio.isfinite()
        if self.kl is not None:
            broken = broken | ~self.kl.isfinite()
        return broken & mask


@dataclass(frozen=True)
class Algorithm:
    """Plain GRPO: no other view, every token weighs 1.

    A subclass is one paper. Its fields are the paper's hyper-parameters, their defaults the
    published values, and it overrides what the paper changes and nothing else.
    """

    def views(self) -> Mapping[str, View]:
        """The views to score each response under, besides the image itself."""
        return {}

    @property
    def needs_exact_kl(self) -> bool:
        """Whether ``token_weights`` reads ``ViewScores.kl``, which costs the scorer more."""
        return False

    @property
    def row_local(self) -> bool:
        """Whether a row's weights depend on that row only.

        The engine then leaves rows of advantage 0 unscored, and gathers nothing over processes.
        """
        return False

    def token_weights(
        self, scores: Mapping[str, ViewScores], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        """What each token's advantage is multiplied by: at least 0, a constant, 0 on padding.

        Args:
            scores: one entry per name in ``views()``, over the whole generation batch.
            mask: True on real response tokens.
        """
        check_mask(mask)
        return mask.float()


def token_advantages(
    algorithm: Algorithm,
    advantages: Float[Tensor, " B"],
    scores: Mapping[str, ViewScores],
    mask: Bool[Tensor, "B T"],
) -> Float[Tensor, "B T"]:
    """Each response's advantage, spread over its tokens by the algorithm's weights."""
    return spread(advantages, checked_weights(algorithm, scores, mask))


def spread(advantages: Float[Tensor, " B"], weights: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Advantages times weights: the one border of engine and method, and a constant.

    Checked here, also where shape annotations are off: with B = T a wrong shape would broadcast
    without an error (T33).
    """
    if advantages.shape != weights.shape[:1]:
        raise ValueError(
            f"advantages must be one per response, {tuple(weights.shape[:1])}, "
            f"got {tuple(advantages.shape)}"
        )
    return advantages.detach()[:, None] * weights


@torch.no_grad()
def checked_weights(
    algorithm: Algorithm, scores: Mapping[str, ViewScores], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """The algorithm's weights, held to the contract of `token_weights`."""
    check_mask(mask)
    check_views(scores, algorithm.views())
    for name, score in scores.items():
        if score.log_ratio.shape != mask.shape:
            raise ValueError(
                f"scores[{name!r}] must have the shape of mask, {tuple(mask.shape)}, "
                f"got {tuple(score.log_ratio.shape)}"
            )
    weights = algorithm.token_weights(scores, mask)
    _check_weights(weights, mask)
    return weights


def check_views(scores: Mapping[str, ViewScores], needed: Iterable[str]) -> None:
    """Refuse scores that lack a view the algorithm reads."""
    if missing := sorted(set(needed) - set(scores)):
        raise ValueError(
            f"scores lack {missing}: needed {sorted(needed)}, got {sorted(scores)}; "
            "score every view in algorithm.views()"
        )
    for name in needed:
        if not isinstance(scores[name], ViewScores):
            raise ValueError(
                f"scores[{name!r}] must be ViewScores, got a {type(scores[name]).__name__}: wrap "
                "log-ratios as ViewScores(log_ratio)"
            )


def _check_weights(weights: Float[Tensor, "..."], mask: Bool[Tensor, "B T"]) -> None:
    """Refuse weights that could flip an advantage or let padding in."""
    if weights.shape != mask.shape:
        raise ValueError(
            f"token_weights must return the shape of mask, {tuple(mask.shape)}, "
            f"got {tuple(weights.shape)}"
        )
    allowed = torch.where(mask, weights.isfinite() & (weights >= 0), weights == 0)
    if not allowed.all():
        raise ValueError(
            "token_weights must return finite weights, at least 0, and 0 on padding, "
            f"got {weights[~allowed][0].item()}"
        )


def check_estimator(estimator: str, clamp: float | None) -> None:
    """Refuse an unknown estimator or a clamp that leaves no score."""
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator must be one of {ESTIMATORS}, got {estimator!r}")
    if clamp is not None and not clamp > 0:
        raise ValueError(f"score_clamp must be above 0, or None to switch it off, got {clamp}")
