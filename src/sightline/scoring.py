"""The same response, scored again under each view, for Hugging Face vision-language models.

Every view goes through one function with the same rows, padding and tiles, the same temperature
and a float32 head, so that a difference between two scores is the view's doing. Only the
positions that predict a response token ever meet that head.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from .algorithms.base import ViewScores
from .core.divergence import compare_views, jensen_shannon, token_log_probs
from .core.masked import check_mask
from .draws import Draws
from .encoding import Encoded
from .families import Family, family_of
from .view_inputs import ViewInputs
from .views import Blind, OtherImage, View

EXTRAS = ("entropy", "view_entropy", "reverse_kl", "hellinger", "jensen_shannon")


class Scored(NamedTuple):
    """Log-probabilities of the sampled tokens given the image, and what each view changes.

    Args:
        log_probs: in nats, under the policy as it is; 0 on padding.
        views: one `ViewScores` per view asked for; exactly 0 on padding and for rows without image.
        noise_floor: how far log-probs and log-ratios move, in nats, when a few rows are scored
            again in other batches; what lies below says nothing. NaN if not measured.
        extras: per view, if asked for, the `EXTRAS`: those of `core.divergence.ViewComparison`, and
            the Jensen-Shannon divergence; in nats, 0 where log-ratios are.
    """

    log_probs: Float[Tensor, "B T"]
    views: dict[str, ViewScores]
    noise_floor: float
    extras: dict[str, dict[str, Float[Tensor, "B T"]]]


@torch.no_grad()
def score_views(
    model: nn.Module,
    responses: Encoded,
    views: Mapping[str, View],
    *,
    temperature: float = 1.0,
    exact_kl: bool = False,
    extras: bool = False,
    processor: Any = None,
    draws: Draws | None = None,
    wanted: Bool[Tensor, " B"] | None = None,
    chunk_rows: int = 32,
    packed: bool = False,
    noise_rows: int = 0,
    unchanged: bool = False,
) -> Scored:
    """Score `responses` given their images and under each of `views`.

    Args:
        model: a Hugging Face vision-language model, wrapped (PEFT, DDP) or not; scored in
            evaluation mode and handed back in the mode it came in.
        temperature: the one the responses were sampled at.
        exact_kl: also fill `ViewScores.kl`, the KL over the whole vocabulary.
        extras: also fill `Scored.extras`, which meets the head a second time; with `exact_kl`.
        processor: the model's; needed by views that change pixels.
        draws: what the randomness of views is made of; needed by views that change pixels.
        wanted: rows that somebody will read; the others cost nothing, and get log-probs and scores
            of exactly 0.
        chunk_rows: responses per forward pass; changes memory, and results by rounding only.
        packed: pass the rows of a chunk one after another in a single one, without padding. For
            variable-length attention (FlashAttention), in the families that are proven to drop
            image tokens; other implementations build a mask over the whole chunk, which costs more
            than padding does.
        noise_rows: how many rows are scored twice to measure the noise floor.
        unchanged: whether a view may leave all of these images as they were, as one does with a
            few that are black already; the caller then sees to it that not all scores are 0.
    """
    if extras and not exact_kl:
        raise ValueError("extras=True needs exact_kl=True: both come from one pass over the head")
    if chunk_rows < 1:
        raise ValueError(f"chunk_rows must be at least 1, got {chunk_rows}")
    if not isinstance(views, Mapping):
        raise ValueError(f"views must map names to views, got a {type(views).__name__}")
    check_mask(responses.mask)
    inner = pretrained(model)
    family = check_responses(inner, responses)
    _check_lengths(len(responses.mask), wanted, draws)
    change = ViewInputs(inner, family, responses, processor, draws)
    for name, view in views.items():
        change.check(name, view)
    if packed:
        _check_packing(inner, family, views)
    mask = responses.mask
    log_probs = torch.zeros(mask.shape, device=mask.device)
    ratios = {name: torch.zeros_like(log_probs) for name in views}
    kls = {name: torch.zeros_like(log_probs) for name in views} if exact_kl else {}
    more = {name: {e: torch.zeros_like(log_probs) for e in EXTRAS} for name in views if extras}
    head = _head_weight(inner)
    chunks = list(_chunks(responses.num_images, wanted, chunk_rows))

    def put(table: Tensor, rows: list[int], values: Tensor) -> None:
        table[rows] = torch.zeros_like(table[rows]).masked_scatter(mask[rows], values)

    with _evaluation_mode(model):
        for rows, has_image in chunks:
            part = responses.select(rows)
            # position ids spelled out, for every view to keep (T1, T2)
            clean = {**part.inputs, "position_ids": family.position_ids(inner, part.inputs)}
            hidden = _response_states(model, inner, clean, part, packed)
            ids = part.response_ids[part.mask]
            scored_views = views if has_image else {}
            if not (exact_kl and scored_views):  # else the comparison below has them
                seen = token_log_probs(hidden, head, ids, temperature=temperature)
                put(log_probs, rows, seen)
            for name, view in scored_views.items():
                inputs = change(name, view, clean, rows)
                unseen = _response_states(model, inner, inputs, part, packed)
                if exact_kl:
                    both = compare_views(
                        hidden, unseen, head, ids, extras=extras, temperature=temperature
                    )
                    put(log_probs, rows, both.log_probs)
                    put(ratios[name], rows, both.view_log_probs - both.log_probs)
                    put(kls[name], rows, both.kl)
                    if extras:
                        found = both._asdict()
                        found["jensen_shannon"] = jensen_shannon(
                            hidden, unseen, head, temperature=temperature
                        )
                        for field in EXTRAS:
                            put(more[name][field], rows, found[field])
                else:
                    blind = token_log_probs(unseen, head, ids, temperature=temperature)
                    put(ratios[name], rows, blind - log_probs[rows][part.mask])
    if not unchanged:
        change.check_done()
    scores = {name: ViewScores(ratios[name], kls.get(name)) for name in views}
    scored = Scored(log_probs, scores, float("nan"), more)
    again = [row for rows, has_image in chunks if has_image for row in rows][:noise_rows]
    if not again:
        return scored
    # Cut otherwise than before: what then differs is the layout's doing and not the image's (T23).
    repeated = score_views(
        model,
        responses.select(again),
        # another row's image would be another one among so few
        {name: view for name, view in views.items() if not isinstance(view, OtherImage)},
        temperature=temperature,
        processor=processor,
        draws=draws and draws.select(again),
        chunk_rows=1 if chunk_rows > 1 else len(again),
        packed=packed,
        unchanged=unchanged,
    )
    moved = [repeated.log_probs - log_probs[again]]
    moved += [score.log_ratio - ratios[name][again] for name, score in repeated.views.items()]
    return scored._replace(noise_floor=float(torch.stack(moved).abs().max()))


def check_responses(model: PreTrainedModel, responses: Encoded) -> Family:
    """Raise unless every image of `responses` can be found in its row, and nothing else can.

    Checked before each scoring: a placeholder that is not found would make every dependency 0 and
    turn training into plain GRPO without a word (T4).

    Returns:
        The family of the model.
    """
    config, ids = model.config, responses.inputs["input_ids"]
    family = family_of(config.model_type)
    video = getattr(config, "video_token_id", None)
    if video is not None and (ids == video).any():
        raise ValueError("video cannot be hidden yet: remove the rows with video")
    inserted = family.find_image(config, responses.response_ids).any(1)
    if inserted.any():
        raise ValueError(
            f"response {int(inserted.nonzero()[0])} holds the image token "
            f"{config.image_token_id}: suppress it in sampling"
        )
    prompts = ids[:, : ids.shape[1] - responses.mask.shape[1]]
    for row, (found, wanted) in enumerate(
        image_tokens(config, prompts, responses.inputs, responses.num_images)
    ):
        images = responses.num_images[row]
        if not are_found(images, found, wanted):
            worth = "" if wanted is None else f" worth {wanted} image tokens"
            raise ValueError(
                f"row {row} has {images} image(s){worth}, but its prompt "
                f"holds {found} tokens with id {config.image_token_id} "
                "(image_token_id of the model's config): check the chat template and any "
                "truncation of prompts"
            )
    return family


def image_tokens(
    config: Any, prompts: Int[Tensor, "B P"], inputs: dict[str, Tensor], num_images: list[int]
) -> list[tuple[int, int | None]]:
    """Per row, the image tokens in its prompt, and those that its images are worth.

    The latter is None in families whose model itself compares the two.
    """
    family = family_of(config.model_type)
    found = family.find_image(config, prompts).sum(1).tolist()
    needed = family.count_features(config, inputs)
    ends = accumulate(num_images)
    return [
        (held, None if needed is None else sum(needed[end - images : end]))
        for held, images, end in zip(found, num_images, ends, strict=True)
    ]


def are_found(images: int, found: int, wanted: int | None) -> bool:
    """Whether a prompt holds the tokens of its images, by the numbers of `image_tokens`."""
    return bool(images) == bool(found) and wanted in (None, found)


def _check_lengths(rows: int, wanted: Tensor | None, draws: Draws | None) -> None:
    if wanted is not None and wanted.shape != (rows,):
        raise ValueError(f"wanted must be one per row, ({rows},), got {tuple(wanted.shape)}")
    if draws is not None and not len(draws.prompts) == len(draws.responses) == rows:
        raise ValueError(
            f"draws must name the prompt and response of each of {rows} rows, got "
            f"{len(draws.prompts)} prompts and {len(draws.responses)} responses"
        )


def _chunks(
    num_images: list[int], wanted: Tensor | None, size: int
) -> Iterator[tuple[list[int], bool]]:
    """Rows that go together, and whether they have an image.

    A row without an image has nothing to hide: no second pass, and scores of exactly 0 (T6).
    """
    read = [True] * len(num_images) if wanted is None else wanted.tolist()
    for has_image in (True, False):
        rows = [row for row, n in enumerate(num_images) if read[row] and (n > 0) == has_image]
        for start in range(0, len(rows), size):
            yield rows[start : start + size], has_image


def _response_states(
    model: nn.Module,
    inner: PreTrainedModel,
    inputs: dict[str, Tensor],
    responses: Encoded,
    packed: bool,
) -> Float[Tensor, "N H"]:
    """Last hidden states of the positions that predict the response's real tokens."""
    width = responses.mask.shape[1]
    places = torch.arange(inputs["input_ids"].numel(), device=responses.mask.device)
    places = places.view_as(inputs["input_ids"])
    if packed:
        inputs, places = _pack(inputs)
    predicting = places[:, -width - 1 : -1][responses.mask]
    caught: list[Tensor] = []

    # Through the model, not its backbone: wrappers such as FSDP gather weights on this call.
    def catch(_module: nn.Module, _args: Any, output: Any) -> None:
        caught.append(output.last_hidden_state.flatten(0, 1)[predicting])

    hook = inner.base_model.register_forward_hook(catch)
    try:
        model(**inputs, use_cache=False, logits_to_keep=1)
    finally:
        hook.remove()
    return caught[0]


def _pack(inputs: dict[str, Tensor]) -> tuple[dict[str, Tensor], Int[Tensor, "B S"]]:
    """The real tokens of all rows in a single row; and where each token has gone.

    Transformers sees where a row begins in the first line of four lines of position ids, wherever
    that does not rise by one (T1, T3): there we count a row's tokens from 0, dropped ones left out.
    """
    real = inputs["attention_mask"].bool()
    count = (real.cumsum(1) - 1).expand(1, -1, -1)
    positions = torch.cat([count, inputs["position_ids"]])
    packed = {n: inputs[n][real][None] for n in ("input_ids", "mm_token_type_ids") if n in inputs}
    pictures = {n: inputs[n] for n in ("pixel_values", "image_grid_thw") if n in inputs}
    places = real.flatten().cumsum(0).view_as(real) - 1
    return {**packed, **pictures, "position_ids": positions[:, real][:, None]}, places


def _check_packing(model: PreTrainedModel, family: Family, views: Mapping[str, View]) -> None:
    if not family.drops:
        raise ValueError(
            f"packed=True is not proven for {model.config.model_type!r}: score it padded"
        )
    for name, view in views.items():
        if isinstance(view, Blind) and (view.by == "mask" or view.image is not None):
            raise ValueError(
                f"view {name!r}: a hidden image token has no place in packed rows, where all are "
                "seen: use Blind(by='drop')"
            )


def _head_weight(model: PreTrainedModel) -> Float[Tensor, "V H"]:
    """The weight of the language model's head, if that is all there is to it.

    Where FSDP has sharded it, it is gathered: on every process, or they wait for one another.
    """
    head: Any = model.get_output_embeddings()
    # FSDP makes a class of its own, of which the head's is a base, as of those of quantizers
    kind: type = type(head)
    if issubclass(kind, FSDPModule):
        head.reshard()  # a forward pass before this may have left a rounded copy in its place
    if nn.Linear not in (kind.__bases__ if issubclass(kind, FSDPModule) else (kind,)) or (
        head.bias is not None
    ):
        raise TypeError(
            f"the head must be a plain nn.Linear without bias, got {kind.__name__}: leave lm_head "
            "out of LoRA's target_modules"
        )
    return head.weight.full_tensor() if isinstance(head.weight, DTensor) else head.weight


def pretrained(model: nn.Module) -> PreTrainedModel:
    """The Hugging Face model inside any wrapper."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            return module
    raise TypeError(f"model must hold a transformers PreTrainedModel, got {type(model).__name__}")


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:  # one by one: a tower frozen in evaluation mode stays so
            module.training = True
