"""What a batch of token weights did, in numbers one can watch."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .algorithms.base import ViewScores
from .core import keep_real, response_mean

QUANTILES = (0.5, 0.9, 0.99)


def weight_metrics(
    weights: Float[Tensor, "B T"], scores: Mapping[str, ViewScores], mask: Bool[Tensor, "B T"]
) -> dict[str, float]:
    """Means over the non-empty responses of a batch, for the log; empty if there is none.

    `weights/largest` is the largest weight in the batch; `weights/effective_tokens` how many
    equally weighted tokens would have the same sum of squares, ``(sum w)^2 / sum w^2``;
    `weights/top10_share` the part of a response's weight that its heaviest tenth of tokens holds;
    `dependency/mean`, `/p50`, `/p90` and `/p99` are the mean and quantiles of the sampled KL per
    token, in nats, under the algorithm's first view; `dependency/positive_share` says how many of
    the tokens that weigh more than their response's mean the image made less likely (T26), where
    there are such; `dependency/not_finite` how many scores of any view were NaN or infinite.
    """
    filled = mask.any(1)
    if not filled.any():
        return {}
    weights, mask = keep_real(weights, mask)[filled], mask[filled]
    total = weights.sum(1).clamp(min=1e-12)
    ordered = weights.sort(1, descending=True).values
    tenth = torch.tensor(
        [math.ceil(round(n * 0.1, 9)) for n in mask.sum(1).tolist()], device=mask.device
    )
    within = torch.arange(weights.shape[1], device=mask.device) < tenth[:, None]
    metrics = {
        "weights/largest": weights.max().item(),
        "weights/effective_tokens": (total**2 / weights.square().sum(1).clamp(min=1e-12))
        .mean()
        .item(),
        "weights/top10_share": ((ordered * within).sum(1) / total).mean().item(),
    }
    kept = [score.select(filled) for score in scores.values()]
    if kept:
        dependency = kept[0].dependency(mask)
        metrics["dependency/mean"] = response_mean(dependency, mask).mean().item()
        quantiles = dependency[mask].quantile(torch.tensor(QUANTILES, device=mask.device))
        for share, value in zip(QUANTILES, quantiles.tolist(), strict=True):
            metrics[f"dependency/p{100 * share:.0f}"] = value
        heavy = mask & (weights > response_mean(weights, mask)[:, None])
        if heavy.any():
            positive = (kept[0].log_ratio[heavy] > 0).float().mean()
            metrics["dependency/positive_share"] = positive.item()
        broken = sum(score.not_finite(mask).sum().item() for score in kept)
        metrics["dependency/not_finite"] = float(broken)
    return metrics
