"""VPPO (arXiv:2510.09285).

Learns from each response's most image-dependent tokens only, and more from responses that depend
on the image more than the rest of the batch.

Differs from the authors' code:

- Scopes. The paper scales a response by where its mean dependency stands in the batch. The code
  takes the extremes over one process's mini-batch (reducing them over processes is commented out)
  and the mean over the micro-batch, of rows reordered by length: the factor depends on how the
  batch was cut. Ours is the whole batch of the step; ``mini_batch_rows`` and
  ``micro_batch_rows`` give the code's (T30).
- The view. The code paints black squares of 14 pixels before the processor resizes the picture,
  whatever the encoder's patch, from a generator nobody seeded. Ours are the encoder's own patches,
  after all resizing, and seeded. The code's are ``MaskPatches(grid="source")`` (T8).
- Kept tokens. The code takes a float32 ceiling, one token too many at some lengths, and an
  unstable sort. Ours is exact, and of equal tokens the earlier goes first (T28, T29).
- Rows without an image. The code masks an arbitrary 60 % of their tokens and gives them the
  smallest factor of the batch. Ours weigh 1 and leave no trace in the statistics (T6).

Taken from the code, where the paper is silent: the formula behind the "dynamic" upper end of the
factors, which makes them average 1, the rounding up of the kept share, and the clamp of scores at
10. In both, tokens that are not kept still count in the denominator of the loss (T32). The code
masks the loss after the clip, which equals masking the advantage. Its "entropy penalty", a mean of
``-log p`` over all tokens, is an option of the trainer and no part of the weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, log

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..core import keep_real, response_max, response_mean, response_min, response_top
from ..views import GRIDS, MaskPatches, View
from .base import Algorithm, ViewScores, check_estimator, check_views

EPSILON = 1e-8
MIN_RANGE = 1e-6  # nats; mean dependencies no further apart than this are all equal


@dataclass(frozen=True)
class VPPO(Algorithm):
    """Keep a response's most dependent tokens, and scale them by its place in the batch.

    A kept token weighs the factor of its response, every other token 0. The least dependent
    response of the batch has the factor ``scale_min``, and all together average 1; one that
    stands out alone takes nearly all there is to give, up to ``1 - scale_min`` per response.
    Where the responses are equally dependent, and for a single one, the factor is 1.

    The filter keeps its share whatever the scores are, so tokens of equal dependency do not give
    plain GRPO but the first tokens of each response. A response without an image does.

    Args:
        top_fraction: share of a response's tokens to keep, rounded up; the paper's k.
        scale_min: factor of the least dependent response; the paper's beta_min. 1 for no scaling.
        scale_max: factor of the most dependent one, or None for that which makes the mean 1; the
            paper's beta_max.
        estimator: ``"k3"`` for the sampled dependency, ``"kl"`` for the exact one.
        score_clamp: the largest dependency, in nats, or None for no limit.
        soft_mask: weigh all tokens by a sigmoid of their dependency that averages
            ``top_fraction`` over the response, App. I, instead of keeping some.
        mini_batch_rows, micro_batch_rows: for the scopes of the authors' code, 128 and 16 on one
            process in their 7B run: the batch is cut into consecutive mini-batches, each with
            extremes of its own, and these into micro-batches, each with a mean of its own; the
            last of either may be shorter. Responses without an image are then treated like any
            other. None, for both, is the whole batch.
        mask_probability: share of the patches that are black in the view.
        mask_grid: ``"source"`` for the order of the authors' code; see ``MaskPatches``.
    """

    top_fraction: float = 0.4
    scale_min: float = 0.9
    scale_max: float | None = None
    estimator: str = "k3"
    score_clamp: float | None = 10.0
    soft_mask: bool = False
    mini_batch_rows: int | None = None
    micro_batch_rows: int | None = None
    mask_probability: float = 0.5
    mask_grid: str = "encoder"

    def __post_init__(self):
        check_estimator(self.estimator, self.score_clamp)
        if not 0 < self.top_fraction <= 1:
            raise ValueError(f"top_fraction must be in (0, 1], got {self.top_fraction}")
        if self.soft_mask and self.top_fraction == 1:
            raise ValueError("top_fraction must be below 1 for soft_mask, got 1.0")
        if not 0 <= self.scale_min <= 1:
            raise ValueError(f"scale_min must be in [0, 1], got {self.scale_min}")
        if self.scale_max is not None and not self.scale_min <= self.scale_max < inf:
            raise ValueError(
                f"scale_max must be at least scale_min and finite, or None, got {self.scale_max}"
            )
        _check_scopes(self.mini_batch_rows, self.micro_batch_rows)
        if not 0 < self.mask_probability <= 1:
            raise ValueError(f"mask_probability must be in (0, 1], got {self.mask_probability}")
        if self.mask_grid not in GRIDS:
            raise ValueError(f"mask_grid must be one of {GRIDS}, got {self.mask_grid!r}")

    def views(self) -> Mapping[str, View]:
        return {"patches": MaskPatches(self.mask_probability, grid=self.mask_grid)}

    @property
    def needs_exact_kl(self) -> bool:
        return self.estimator == "kl"

    @property
    def row_local(self) -> bool:
        return self.scale_min == 1 and self.scale_max in (None, 1)

    def token_weights(
        self, scores: Mapping[str, ViewScores], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        check_views(scores, self.views())
        score = scores["patches"]
        dependency = score.dependency(mask, self.estimator, self.score_clamp).double()
        counted = self._counted(score, mask)
        scales = self._scales(response_mean(dependency, mask), counted)
        weights = scales[:, None] * self._filter(dependency, mask)
        weights = torch.where(counted[:, None], weights, 1.0)
        return keep_real(weights.float(), mask)

    def _counted(self, score: ViewScores, mask: Bool[Tensor, "B T"]) -> Bool[Tensor, " B"]:
        """Responses to be filtered and compared: those with any score, as all with an image."""
        if self.mini_batch_rows is not None:
            return mask.any(1)
        return score.scored_rows(mask, self.needs_exact_kl)

    def _filter(
        self, dependency: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        """1 on the tokens to keep, else 0, eq. 4; or the soft form, in between."""
        if self.soft_mask:
            return _soft_filter(dependency, mask, self.top_fraction)
        return response_top(dependency, mask, self.top_fraction).double()

    def _scales(
        self, means: Float[Tensor, " B"], counted: Bool[Tensor, " B"]
    ) -> Float[Tensor, " B"]:
        """The factor of each response, from the mean dependencies of those that count; eq. 5."""
        rows = torch.arange(len(means), device=means.device)
        mini, micro = (n or len(means) for n in (self.mini_batch_rows, self.micro_batch_rows))
        scales = torch.ones_like(means)
        for batch in rows.split(mini):
            known = means[batch[counted[batch]]]
            if not len(known):
                continue
            least, most = known.aminmax()
            if most - least > MIN_RANGE:
                standing = (means - least) / (most - least)
                for part in batch.split(micro):
                    part = part[counted[part]]
                    scales[part] = self._scale(standing[part])
        return scales

    def _scale(self, standing: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        """``scale_min`` at 0, ``scale_max`` at 1; by default what makes the mean 1."""
        if self.scale_max is not None:
            return self.scale_min + (self.scale_max - self.scale_min) * standing
        return self.scale_min + (1 - self.scale_min) * standing / (standing.mean() + EPSILON)


def _soft_filter(
    dependency: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], target: float
) -> Float[Tensor, "B T"]:
    """``sigmoid(z - c)`` of the standardised dependency, with the c that makes its mean ``target``.

    App. I, which does not say whose standard deviation: ours is that of the response's tokens as a
    population.
    """
    centred = dependency - response_mean(dependency, mask)[:, None]
    deviation = response_mean(centred.square(), mask).sqrt()[:, None]
    standard = centred / (deviation + EPSILON)
    # at the lower end every token is at the target or above, at the upper end at it or below
    logit = log(target / (1 - target))
    low = response_min(standard, mask)[:, None] - logit
    high = response_max(standard, mask)[:, None] - logit
    standard = keep_real(standard, mask, -inf)  # no padding in the sums
    total = target * mask.sum(1, keepdim=True)
    for _ in range(50):
        middle = (low + high) / 2
        above = (standard - middle).sigmoid().sum(1, keepdim=True) > total
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return (standard - low).sigmoid()


def _check_scopes(mini: int | None, micro: int | None) -> None:
    """Refuse what is not a mini-batch and a micro-batch that fits into it."""
    for name, rows in (("mini_batch_rows", mini), ("micro_batch_rows", micro)):
        if rows is not None and not (isinstance(rows, int) and rows >= 1):
            raise ValueError(f"{name} must be a whole number of at least 1, or None, got {rows}")
    if (mini is None) != (micro is None):
        raise ValueError(
            f"mini_batch_rows and micro_batch_rows must both be given or neither, got {mini} and "
            f"{micro}"
        )
    if mini is not None and micro is not None and micro > mini:
        raise ValueError(
            f"micro_batch_rows must be no more than mini_batch_rows, {mini}, got {micro}"
        )
