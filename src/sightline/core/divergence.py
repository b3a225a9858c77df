"""How far a view moves the next-token distribution, in nats: from one sampled token, or exactly.

One direction everywhere (T21): KL(image || view), of the distribution given the image from the one
given the view. The exact form walks the vocabulary in tiles, so that no table of rows by
vocabulary exists; its results are constants.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Where running maxima start. Finite, so that an empty sum rescales to 0 rather than to NaN; never
# 0, or a row whose logits are all below about -88 would sum to 0.
LOWEST = -1e30


def sampled_kl(
    log_ratio: Float[Tensor, "*shape"], clamp: float | None = 10.0
) -> Float[Tensor, "*shape"]:
    """One-sample estimate of KL(image || view) per token, in nats; float32, at least 0.

    ``min(exp(x) - 1 - x, clamp)`` with ``x = log p(y | view) - log p(y | image)``: unbiased before
    the clamp if ``y`` was drawn from the whole ``p(. | image)``. Schulman's k3; DeepSeekMath
    (arXiv:2402.03300), eq. 4, where the view is the reference model. It has no sign and is
    lopsided: ``x = 2`` gives 4.39 and ``x = -2`` gives 1.14 (T26).

    Args:
        log_ratio: ``x``; negative where the image made the token likelier.
        clamp: the largest score, or None for no limit but that of clipping ``x`` to +-20, which
            only prevents overflow.
    """
    ratio = log_ratio.float().clamp(-20, 20)
    # expm1, because exp(x) - 1 - x is 0 in float32 at x = 1e-4 (T27)
    return (ratio.expm1() - ratio).clamp(min=0, max=clamp)


class ViewComparison(NamedTuple):
    """What one pass over the vocabulary tells of two views, per row.

    Args:
        log_probs: of the targets given the image.
        view_log_probs: of the targets given the view.
        kl: exact KL(image || view).
    """

    log_probs: Float[Tensor, " N"]
    view_log_probs: Float[Tensor, " N"]
    kl: Float[Tensor, " N"]


@torch.no_grad()
def token_log_probs(
    hidden: Float[Tensor, "N H"],
    head_weight: Float[Tensor, "V H"],
    targets: Int[Tensor, " N"],
    *,
    temperature: float = 1.0,
    row_chunk: int = 512,
    vocab_chunk: int = 4096,
) -> Float[Tensor, " N"]:
    """Log-probability of each row's target, in nats; float32, from float32 logits.

    ``log_softmax(hidden @ head_weight.T / temperature)[targets]``.

    Args:
        hidden: last hidden states of the positions that predict ``targets``, and of no others.
        temperature: the one the targets were sampled at.
        row_chunk: rows in memory at a time; changes memory, not results.
        vocab_chunk: vocabulary entries in memory at a time; likewise.
    """
    _check_rows(head_weight, targets, temperature)
    parts = []
    for rows, chosen in zip(hidden.split(row_chunk), targets.split(row_chunk), strict=True):
        scale = _Scale(rows)
        for tile in head_weight.split(vocab_chunk):
            scale.add(_logits(rows, tile, temperature))
        parts.append(_chosen_logits(rows, head_weight, chosen, temperature) - scale.log_sum())
    return torch.cat(parts)


def exact_kl(
    hidden: Float[Tensor, "N H"],
    view_hidden: Float[Tensor, "N H"],
    head_weight: Float[Tensor, "V H"],
    *,
    temperature: float = 1.0,
    row_chunk: int = 512,
    vocab_chunk: int = 4096,
) -> Float[Tensor, " N"]:
    """Exact KL(image || view) of each row over the whole vocabulary, in nats; float32, at least 0.

    ``sum_v p_v (log p_v - log q_v)``, with ``p`` from ``hidden`` and ``q`` from ``view_hidden``.
    PGPO (arXiv:2604.01840), eq. 1. Absolute error about 1e-6 nats, so a smaller KL is noise.

    Args:
        hidden: last hidden states given the image.
        view_hidden: of the same positions given the view.
        temperature, row_chunk, vocab_chunk: as in ``token_log_probs``.
    """
    targets = torch.zeros(len(hidden), dtype=torch.long, device=hidden.device)
    return compare_views(
        hidden,
        view_hidden,
        head_weight,
        targets,
        temperature=temperature,
        row_chunk=row_chunk,
        vocab_chunk=vocab_chunk,
    ).kl


@torch.no_grad()
def compare_views(
    hidden: Float[Tensor, "N H"],
    view_hidden: Float[Tensor, "N H"],
    head_weight: Float[Tensor, "V H"],
    targets: Int[Tensor, " N"],
    *,
    temperature: float = 1.0,
    row_chunk: int = 512,
    vocab_chunk: int = 4096,
) -> ViewComparison:
    """``token_log_probs`` of both views and their ``exact_kl``, meeting the head once per view.

    With running maxima ``m1, m2``, image and view logits ``a = l1 - m1, b = l2 - m2``::

        Z1 = sum exp(a),  Z2 = sum exp(b),  D = sum exp(a) (a - b)
        KL = D / Z1 - log Z1 + log Z2

    Args:
        hidden, view_hidden: as in ``exact_kl``.
        targets, temperature, row_chunk, vocab_chunk: as in ``token_log_probs``.
    """
    if hidden.shape != view_hidden.shape:
        raise ValueError(
            f"view_hidden must have the shape of hidden, {tuple(hidden.shape)}, "
            f"got {tuple(view_hidden.shape)}: score the same positions under both views"
        )
    _check_rows(head_weight, targets, temperature)
    parts = []
    for rows, view_rows, chosen in zip(
        hidden.split(row_chunk), view_hidden.split(row_chunk), targets.split(row_chunk), strict=True
    ):
        image, view = _Scale(rows), _Scale(view_rows)
        divergence = torch.zeros_like(image.total)
        for tile in head_weight.split(vocab_chunk):
            total = image.total
            # two products of one shape, not one stacked: equal views then score exactly 0 (T22)
            a, exp_a, rise1 = image.add(_logits(rows, tile, temperature))
            b, _, rise2 = view.add(_logits(view_rows, tile, temperature))
            divergence = (-rise1).exp() * (divergence - (rise1 - rise2) * total)
            divergence += (exp_a * (a - b)).sum(1)
        kl = divergence / image.total - image.total.log() + view.total.log()
        parts.append(
            ViewComparison(
                _chosen_logits(rows, head_weight, chosen, temperature) - image.log_sum(),
                _chosen_logits(view_rows, head_weight, chosen, temperature) - view.log_sum(),
                kl.clamp(min=0),
            )
        )
    return ViewComparison(*map(torch.cat, zip(*parts, strict=True)))


class _Scale:
    """Running ``maximum`` and ``total = sum exp(logit - maximum)`` of rows seen tile by tile."""

    def __init__(self, rows: Tensor):
        self.maximum = rows.new_full((len(rows),), LOWEST, dtype=torch.float32)
        self.total = torch.zeros_like(self.maximum)

    def add(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take in a tile; return it below the new maximum, its exponential, the maximum's rise."""
        maximum = torch.maximum(self.maximum, logits.amax(1))
        rise = maximum - self.maximum
        below = logits - maximum[:, None]
        exp_below = below.exp()
        self.total = (-rise).exp() * self.total + exp_below.sum(1)
        self.maximum = maximum
        return below, exp_below, rise

    def log_sum(self) -> Tensor:
        return self.maximum + self.total.log()


def _logits(hidden: Tensor, tile: Tensor, temperature: float) -> Tensor:
    # float32, also inside the autocast region of a trainer: bf16 logits between 16 and 32 lie
    # 0.125 apart, and that rounding would read as dependency (T24)
    with torch.autocast(hidden.device.type, enabled=False):
        return hidden.float() @ tile.float().T / temperature


def _chosen_logits(
    hidden: Tensor, head_weight: Tensor, targets: Tensor, temperature: float
) -> Tensor:
    return (hidden.float() * head_weight[targets].float()).sum(1) / temperature


def _check_rows(head_weight: Tensor, targets: Tensor, temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    # a negative id would silently read the head from its end
    strange = targets[(targets < 0) | (targets >= len(head_weight))]
    if len(strange):
        raise ValueError(
            f"targets must be token ids in [0, {len(head_weight)}), got {strange[0].item()}: "
            "pass real response tokens only"
        )
