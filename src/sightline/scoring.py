"""The same response, scored again under each view, for Hugging Face vision-language models.

Every view goes through one function with the same rows, padding and tiles, the same temperature
and a float32 head, so that a difference between two scores is the view's doing. Only the
positions that predict a response token ever meet that head.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from .algorithms.base import ViewScores
from .core.divergence import compare_views, token_log_probs
from .encoding import Encoded
from .views import Blind, View

# Families whose positions, placeholders and picture tensors the tests walk through.
FAMILIES = ("qwen2_5_vl",)


class Scored(NamedTuple):
    """Log-probabilities of the sampled tokens given the image, and what each view changes.

    Args:
        log_probs: in nats, under the policy as it is; 0 on padding.
        views: one `ViewScores` per view asked for; exactly 0 on padding and for rows without image.
    """

    log_probs: Float[Tensor, "B T"]
    views: dict[str, ViewScores]


@torch.no_grad()
def score_views(
    model: nn.Module,
    responses: Encoded,
    views: Mapping[str, View],
    *,
    temperature: float = 1.0,
    exact_kl: bool = False,
    chunk_rows: int = 32,
) -> Scored:
    """Score `responses` given their images and under each of `views`.

    Args:
        model: a Hugging Face vision-language model, wrapped (PEFT, DDP) or not; scored in
            evaluation mode and handed back in the mode it came in.
        temperature: the one the responses were sampled at.
        exact_kl: also fill `ViewScores.kl`, the KL over the whole vocabulary.
        chunk_rows: responses per forward pass; changes memory, and results by rounding only.
    """
    inner = _pretrained(model)
    check_responses(inner, responses)
    for name, view in views.items():
        if not isinstance(view, Blind):
            raise TypeError(f"view {name!r} is a {type(view).__name__}; known views: Blind")
    mask = responses.mask
    log_probs = torch.zeros(mask.shape, device=mask.device)
    ratios = {name: torch.zeros_like(log_probs) for name in views}
    kls = {name: torch.zeros_like(log_probs) for name in views} if exact_kl else {}
    head = _head(inner)

    def put(table: Tensor, rows: list[int], values: Tensor) -> None:
        table[rows] = torch.zeros_like(table[rows]).masked_scatter(mask[rows], values)

    with _evaluation_mode(model):
        # A row without an image has nothing to hide: no second pass, and scores of exactly 0.
        for rows, has_image in _chunks(responses.num_images, chunk_rows):
            part = responses.select(rows)
            clean = _clean_inputs(inner, part)
            hidden = _response_states(model, inner, clean, part)
            ids = part.response_ids[part.mask]
            seen = token_log_probs(hidden, head.weight, ids, temperature=temperature)
            put(log_probs, rows, seen)
            for name, view in views.items() if has_image else ():
                assert isinstance(view, Blind)
                inputs = _blind_inputs(inner, clean, part.mask.shape[1], view)
                blind = _response_states(model, inner, inputs, part)
                if exact_kl:
                    both = compare_views(hidden, blind, head.weight, ids, temperature=temperature)
                    put(ratios[name], rows, both.view_log_probs - both.log_probs)
                    put(kls[name], rows, both.kl)
                else:
                    unseen = token_log_probs(blind, head.weight, ids, temperature=temperature)
                    put(ratios[name], rows, unseen - seen)
    return Scored(log_probs, {name: ViewScores(ratios[name], kls.get(name)) for name in views})


def check_responses(model: PreTrainedModel, responses: Encoded) -> None:
    """Raise unless every image of `responses` can be found in its row, and nothing else can.

    Checked before each scoring: a placeholder that is not found would make every dependency 0 and
    turn training into plain GRPO without a word (T4).
    """
    config, inputs = model.config, responses.inputs
    if config.model_type not in FAMILIES:
        raise ValueError(
            f"cannot score the model family {config.model_type!r}; known families: {FAMILIES}"
        )
    width = responses.mask.shape[1]
    ids = inputs["input_ids"]
    if (ids == config.video_token_id).any():
        raise ValueError("video cannot be hidden yet: remove the rows with video")
    inserted = (responses.response_ids == config.image_token_id).any(1)
    if inserted.any():
        raise ValueError(
            f"response {int(inserted.nonzero()[0])} holds the image token "
            f"{config.image_token_id}: suppress it in sampling"
        )
    found = (ids[:, : ids.shape[1] - width] == config.image_token_id).sum(1)
    for row, grids in enumerate(_grids_by_row(responses)):
        merged = config.vision_config.spatial_merge_size**2
        wanted = sum(int(grid.prod()) // merged for grid in grids)
        if wanted != int(found[row]):
            raise ValueError(
                f"row {row} has {len(grids)} image(s) worth {wanted} image tokens, but its prompt "
                f"holds {int(found[row])} tokens with id {config.image_token_id} "
                "(image_token_id of the model's config): check the chat template and any "
                "truncation of prompts"
            )


def _grids_by_row(responses: Encoded) -> list[Tensor]:
    grids = responses.inputs.get("image_grid_thw")
    if grids is None:
        grids = torch.zeros(0, 3, dtype=torch.long)
    return list(grids.split(responses.num_images))


def _chunks(num_images: list[int], size: int) -> Iterator[tuple[list[int], bool]]:
    for has_image in (True, False):
        rows = [row for row, count in enumerate(num_images) if (count > 0) == has_image]
        for start in range(0, len(rows), size):
            yield rows[start : start + size], has_image


def _clean_inputs(model: Any, responses: Encoded) -> dict[str, Tensor]:
    """The model's inputs with position ids spelled out, for every view to keep (T1, T2)."""
    inputs = responses.inputs
    positions, _ = model.base_model.get_rope_index(
        inputs["input_ids"],
        mm_token_type_ids=(inputs["input_ids"] == model.config.image_token_id).int(),
        image_grid_thw=inputs.get("image_grid_thw"),
        attention_mask=inputs["attention_mask"],
    )
    return {**inputs, "position_ids": positions}


def _blind_inputs(
    model: Any, clean: dict[str, Tensor], width: int, view: Blind
) -> dict[str, Tensor]:
    """`clean` with its image tokens out of reach; no pixels, since nothing could attend to them."""
    ids, attention, positions = (
        clean[name] for name in ("input_ids", "attention_mask", "position_ids")
    )
    image = ids == model.config.image_token_id
    if view.by == "mask":
        return {
            "input_ids": ids,
            "attention_mask": attention.masked_fill(image, 0),
            "position_ids": positions,
        }
    kept = attention.bool() & ~image
    kept[:, ids.shape[1] - width :] = True  # response padding stays: the columns must line up
    # Kept tokens in their order against the right edge, which is left padding for the prompt.
    longest = int(kept.sum(1).max())
    source = kept.long().argsort(dim=1, stable=True)[:, -longest:]
    return {
        "input_ids": ids.gather(1, source),
        "attention_mask": (attention * kept).gather(1, source),
        "position_ids": positions.gather(2, source.expand(3, -1, -1)),
    }


def _response_states(
    model: nn.Module, inner: PreTrainedModel, inputs: dict[str, Tensor], responses: Encoded
) -> Float[Tensor, "N H"]:
    """Last hidden states of the positions that predict the response's real tokens."""
    width = responses.mask.shape[1]
    caught: list[Tensor] = []

    # Through the model, not its backbone: wrappers such as FSDP gather weights on this call.
    def catch(_module: nn.Module, _args: Any, output: Any) -> None:
        caught.append(output.last_hidden_state[:, -width - 1 : -1][responses.mask])

    hook = inner.base_model.register_forward_hook(catch)
    try:
        model(**inputs, use_cache=False, logits_to_keep=1)
    finally:
        hook.remove()
    return caught[0]


def _head(model: PreTrainedModel) -> nn.Linear:
    """The language model's head, if its weight is all there is to it."""
    head: Any = model.get_output_embeddings()
    if type(head) is not nn.Linear or head.bias is not None:
        raise TypeError(
            f"the head must be a plain nn.Linear without bias, got {type(head).__name__}: leave "
            "lm_head out of LoRA's target_modules"
        )
    return head


def _pretrained(model: nn.Module) -> PreTrainedModel:
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
