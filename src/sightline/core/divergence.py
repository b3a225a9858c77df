"""How far a view moves the next-token distribution, in nats: from one sampled token, or exactly.

One direction everywhere (T21): KL(image || view), of the distribution given the image from the one
given the view. The exact forms walk the vocabulary in tiles, so that no table of rows by
vocabulary exists; their results are constants.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .k3 import LARGEST, k3

# Where running maxima start. Finite, so that an empty sum rescales to 0 rather than to NaN; never
# 0, or a row whose logits are all below about -88 would sum to 0.
LOWEST = -1e30


def sampled_kl(
    log_ratio: Float[Tensor, "*shape"], clamp: float | None = LARGEST
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
    return k3(log_ratio.float(), torch.expm1, clamp)


class ViewComparison(NamedTuple):
    """What one pass over the vocabulary tells of two views, per row; everything in nats.

    Args:
        log_probs: of the targets given the image.
        view_log_probs: of the targets given the view.
        kl: exact KL(image || view).
        entropy, view_entropy: of the next token given the image, given the view; this field and
            all below are None unless `extras` are asked for.
        reverse_kl: exact KL(view || image), the other direction than everywhere else.
        hellinger: squared Hellinger distance ``1 - sum_v sqrt(p_v q_v)``, from 0 to 1 and
            symmetric. It bounds ``jensen_shannon`` without a second pass:
            ``ln 2 * hellinger <= JS <= hellinger``.
    """

    log_probs: Float[Tensor, " N"]
    view_log_probs: Float[Tensor, " N"]
    kl: Float[Tensor, " N"]
    entropy: Float[Tensor, " N"] | None = None
    view_entropy: Float[Tensor, " N"] | None = None
    reverse_kl: Float[Tensor, " N"] | None = None
    hellinger: Float[Tensor, " N"] | None = None


@torch.no_grad()
def token_log_probs(
    hidden: Float[Tensor, "N H"],
    head_weight: Float[Tensor, "V H"],
    targets: Int[Tensor, " N"],
    *,
    temperature: float = 1.0,
    row_chunk: int = 512,
    vocab_chunk: int | None = None,
) -> Float[Tensor, " N"]:
    """Log-probability of each row's target, in nats; float32, from float32 logits.

    ``log_softmax(hidden @ head_weight.T / temperature)[targets]``.

    Args:
        hidden: last hidden states of the positions that predict ``targets``, and of no others.
        temperature: the one the targets were sampled at.
        row_chunk: rows in memory at a time; changes memory, and results by rounding only.
        vocab_chunk: vocabulary entries in memory at a time, or None for what suits the device;
            likewise.
    """
    _check_temperature(temperature)
    _check_targets(targets, head_weight)
    parts = []
    for rows, chosen in zip(hidden.split(row_chunk), targets.split(row_chunk), strict=True):
        rows = rows.float() / temperature
        scale = _Scale(rows)
        for tile in _tiles(head_weight, vocab_chunk):
            scale.add(*_logits(tile, rows))
        parts.append(_chosen_logits(rows, head_weight, chosen) - scale.log_sum())
    return torch.cat(parts)


def exact_kl(
    hidden: Float[Tensor, "N H"],
    view_hidden: Float[Tensor, "N H"],
    head_weight: Float[Tensor, "V H"],
    *,
    temperature: float = 1.0,
    row_chunk: int = 512,
    vocab_chunk: int | None = None,
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
    extras: bool = False,
    temperature: float = 1.0,
    row_chunk: int = 512,
    vocab_chunk: int | None = None,
) -> ViewComparison:
    """``token_log_probs`` of both views and their ``exact_kl``, meeting the head once per view.

    With running maxima ``m1, m2``, image and view logits ``a = l1 - m1, b = l2 - m2``::

        Z1 = sum exp(a),  Z2 = sum exp(b),  D = sum exp(a) (a - b)
        KL = D / Z1 - log Z1 + log Z2

    and in the same way, with ``sum exp(b) (a - b)``, ``sum exp(a) a``, ``sum exp(b) b`` and
    ``sum exp((a + b) / 2)``, what ``extras`` adds.

    Args:
        hidden, view_hidden: as in ``exact_kl``.
        extras: also fill the optional fields, which take longer and no more matrix work.
        targets, temperature, row_chunk, vocab_chunk: as in ``token_log_probs``.
    """
    _check_views(hidden, view_hidden)
    _check_temperature(temperature)
    _check_targets(targets, head_weight)
    parts = []
    for rows, view_rows, chosen in zip(
        hidden.split(row_chunk), view_hidden.split(row_chunk), targets.split(row_chunk), strict=True
    ):
        rows, view_rows = rows.float() / temperature, view_rows.float() / temperature
        both = _Comparison(rows, extras)
        for tile in _tiles(head_weight, vocab_chunk):
            both.add(*_logits(tile, rows, view_rows))
        log_probs = _chosen_logits(rows, head_weight, chosen) - both.image.log_sum()
        view_log_probs = _chosen_logits(view_rows, head_weight, chosen) - both.view.log_sum()
        parts.append((log_probs, view_log_probs, *both.results()))
    return ViewComparison(*map(torch.cat, zip(*parts, strict=True)))


@torch.no_grad()
def jensen_shannon(
    hidden: Float[Tensor, "N H"],
    view_hidden: Float[Tensor, "N H"],
    head_weight: Float[Tensor, "V H"],
    *,
    temperature: float = 1.0,
    row_chunk: int = 512,
    vocab_chunk: int | None = None,
) -> Float[Tensor, " N"]:
    """Exact Jensen-Shannon divergence of each row's two views, in nats; float32, 0 to ln 2.

    ``(KL(p || m) + KL(q || m)) / 2`` with ``m = (p + q) / 2``: symmetric, and bounded where the KL
    is not. The mixture needs both normalisers inside its logarithm, so the head is met a second
    time: this costs two ``exact_kl``. With ``s = (q - p) / (q + p) = tanh((log q - log p) / 2)``::

        JS = sum_v m ((1 + s) log(1 + s) + (1 - s) log(1 - s)) / 2

    whose terms are all at least 0, rounded or not: small values are no difference of large ones.

    Args:
        hidden, view_hidden: as in ``exact_kl``.
        temperature, row_chunk, vocab_chunk: as in ``token_log_probs``.
    """
    _check_views(hidden, view_hidden)
    _check_temperature(temperature)
    parts = []
    for rows, view_rows in zip(hidden.split(row_chunk), view_hidden.split(row_chunk), strict=True):
        rows, view_rows = rows.float() / temperature, view_rows.float() / temperature
        image, view = _Scale(rows), _Scale(view_rows)
        for tile in _tiles(head_weight, vocab_chunk):
            logits, view_logits = _logits(tile, rows, view_rows)
            image.add(logits)
            view.add(view_logits)
        divergence = torch.zeros_like(image.total)
        for tile in _tiles(head_weight, vocab_chunk):
            logits, view_logits = _logits(tile, rows, view_rows)
            log_p, log_q = image.log_softmax(logits), view.log_softmax(view_logits)
            s = ((log_q - log_p) / 2).tanh()
            # x log1p(y), but 0 where x is: one view rules the word out
            terms = torch.special.xlog1py(1 + s, s) + torch.special.xlog1py(1 - s, -s)
            divergence += ((log_p.exp() + log_q.exp()) * terms).sum(1) / 4
        parts.append(divergence.clamp(max=math.log(2)))
    return torch.cat(parts)


class _Tile(NamedTuple):
    """Logits of some columns, and what they did to the maximum of all columns so far."""

    below: Tensor  # the new maximum
    exp: Tensor  # of `below`
    rise: Tensor  # of the maximum
    earlier: Tensor  # `total` of earlier columns, under the old maximum


class _Scale:
    """Running ``maximum`` and ``total = sum exp(logit - maximum)`` of rows seen tile by tile."""

    def __init__(self, rows: Tensor):
        self.maximum = rows.new_full((len(rows),), LOWEST)
        self.total = torch.zeros_like(self.maximum)

    def add(self, logits: Tensor) -> _Tile:
        """Take in a tile, overwriting it."""
        maximum = torch.maximum(self.maximum, logits.amax(1))
        below = logits.sub_(maximum[:, None])
        tile = _Tile(below, below.exp(), maximum - self.maximum, self.total)
        self.total = (-tile.rise).exp() * self.total + tile.exp.sum(1)
        self.maximum = maximum
        return tile

    def log_sum(self) -> Tensor:
        return self.maximum + self.total.log()

    def log_softmax(self, logits: Tensor) -> Tensor:
        """Of a tile, once all have been added; overwrites it."""
        # not log_sum() at once, which is rounded to 1e-3 where logits are near 1e4
        return logits.sub_(self.maximum[:, None]).sub_(self.total.log()[:, None])


class _Comparison:
    """Running sums over two views' logits ``a`` and ``b``, below their maxima, tile by tile."""

    def __init__(self, rows: Tensor, extras: bool):
        self.image, self.view, self.extras = _Scale(rows), _Scale(rows), extras
        zeros = torch.zeros_like(self.image.total)
        self.gap, self.view_gap = zeros, zeros  # sum exp(a) (a - b), sum exp(b) (a - b)
        self.below, self.view_below = zeros, zeros  # sum exp(a) a, sum exp(b) b
        self.overlap = zeros  # sum exp((a + b) / 2)

    def add(self, logits: Tensor, view_logits: Tensor) -> None:
        """Take in a tile of both views, overwriting it."""
        a, b = self.image.add(logits), self.view.add(view_logits)
        gap, fall = a.below - b.below, a.rise - b.rise
        self.gap = _grown(self.gap, a, gap, fall)
        if self.extras:
            self.view_gap = _grown(self.view_gap, b, gap, fall)
            self.below = _grown(self.below, a, a.below, a.rise)
            self.view_below = _grown(self.view_below, b, b.below, b.rise)
            self.overlap = (-(a.rise + b.rise) / 2).exp() * self.overlap
            self.overlap += ((a.below + b.below) / 2).exp().sum(1)

    def results(self) -> tuple[Tensor, ...]:
        """The fields of `ViewComparison` from `kl` on."""
        z1, z2 = self.image.total, self.view.total
        kl = self.gap / z1 - z1.log() + z2.log()
        if not self.extras:
            return (kl.clamp(min=0),)
        entropy = z1.log() - self.below / z1
        view_entropy = z2.log() - self.view_below / z2
        reverse_kl = z1.log() - z2.log() - self.view_gap / z2
        hellinger = 1 - self.overlap / (z1 * z2).sqrt()
        # none is below 0, but for rounding
        return tuple(x.clamp(min=0) for x in (kl, entropy, view_entropy, reverse_kl, hellinger))


def _grown(weighted: Tensor, tile: _Tile, values: Tensor, fall: Tensor) -> Tensor:
    """``weighted = sum exp * values`` and a tile more; its old values have fallen by `fall`."""
    earlier = (-tile.rise).exp() * (weighted - fall * tile.earlier)
    return earlier + (tile.exp * values).sum(1)


def _tiles(head_weight: Tensor, vocab_chunk: int | None) -> tuple[Tensor, ...]:
    if vocab_chunk is None:
        # On a CPU the tables of a tile should stay in cache. On a GPU running a kernel should take
        # longer than starting it; 512 rows of 2048 columns are about what fits into 64 MiB.
        vocab_chunk = 1024 if head_weight.device.type == "cpu" else 2048
    return head_weight.split(vocab_chunk)


def _logits(tile: Tensor, *rows: Tensor) -> list[Tensor]:
    # float32, also inside the autocast region of a trainer: bf16 logits between 16 and 32 lie
    # 0.125 apart, and that rounding would read as dependency (T24)
    columns = tile.float().T
    with torch.autocast(tile.device.type, enabled=False):
        # one product per view, not one stacked: equal views then score exactly 0 (T22)
        return [view @ columns for view in rows]


def _chosen_logits(rows: Tensor, head_weight: Tensor, targets: Tensor) -> Tensor:
    return (rows * head_weight[targets].float()).sum(1)


def _check_views(hidden: Tensor, view_hidden: Tensor) -> None:
    if hidden.shape != view_hidden.shape:
        raise ValueError(
            f"view_hidden must have the shape of hidden, {tuple(hidden.shape)}, "
            f"got {tuple(view_hidden.shape)}: score the same positions under both views"
        )


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")


def _check_targets(targets: Tensor, head_weight: Tensor) -> None:
    # a negative id would silently read the head from its end
    strange = targets[(targets < 0) | (targets >= len(head_weight))]
    if len(strange):
        raise ValueError(
            f"targets must be token ids in [0, {len(head_weight)}), got {strange[0].item()}: "
            "pass real response tokens only"
        )
