"""Rows and responses → the tensors a Hugging Face vision-language model takes.

One layout everywhere, the one TRL's trainer makes: prompts padded on the left, responses on the
right, so that the response of every row starts in the same column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from jaxtyping import Bool, Int
from PIL import Image
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Encoded:
    """Prompts of P columns and responses of T, side by side.

    Args:
        inputs: what the model is called with: `input_ids` and `attention_mask` of shape
            `(B, P + T)`, the processor's picture tensors and token types.
        response_ids: the last T columns of `input_ids`.
        mask: True on real response tokens, the end token included.
        num_images: pictures per row.
        pictures: the pictures themselves, row by row, where somebody needs them.
    """

    inputs: dict[str, Tensor]
    response_ids: Int[Tensor, "B T"]
    mask: Bool[Tensor, "B T"]
    num_images: list[int]
    pictures: Sequence[Sequence[Image.Image]] | None = None

    def to(self, device: torch.device | str) -> "Encoded":
        """The same, with its tensors on `device`."""
        inputs = {name: value.to(device) for name, value in self.inputs.items()}
        return replace(
            self,
            inputs=inputs,
            response_ids=self.response_ids.to(device),
            mask=self.mask.to(device),
        )

    def select(self, rows: Sequence[int]) -> "Encoded":
        """These rows only, with their own pictures."""
        index = list(rows)
        flat = self._flat
        inputs = {n: value[index] for n, value in self.inputs.items() if n not in flat}
        if any(self.num_images[row] for row in index):
            inputs |= {n: torch.cat([parts[row] for row in index]) for n, parts in flat.items()}
        return Encoded(
            inputs,
            self.response_ids[index],
            self.mask[index],
            [self.num_images[row] for row in index],
            None if self.pictures is None else [self.pictures[row] for row in index],
        )

    @cached_property  # it is asked for with each part of a batch
    def _flat(self) -> dict[str, tuple[Tensor, ...]]:
        """The tensors that have no axis of rows, cut into one piece per row."""
        if "image_grid_thw" in self.inputs:  # the Qwen family: one line per patch
            grids = self.inputs["image_grid_thw"].split(self.num_images)
            counts = iter(self.inputs["image_grid_thw"].prod(1).tolist())
            patches = [sum(islice(counts, images)) for images in self.num_images]
            pixels = self.inputs["pixel_values"].split(patches)
            return {"image_grid_thw": grids, "pixel_values": pixels}
        if "image_sizes" in self.inputs:  # the LLaVA family: one line per image
            names = ("image_sizes", "pixel_values")
            return {name: self.inputs[name].split(self.num_images) for name in names}
        return {}


def encode(
    processor: Any,
    rows: Sequence[dict],
    responses: Sequence[str] | Sequence[Sequence[int]] | None = None,
) -> Encoded:
    """Encode `rows` (columns `prompt` and `images`), with their responses if there are any.

    A response is tokenized as given and closed with the end-of-turn token, as a sampled one is;
    one of token ids stays as it is.
    """
    if not rows:
        raise ValueError("encode needs at least one row, got none")
    if responses is not None and len(responses) != len(rows):
        raise ValueError(f"there must be a response per row, got {len(responses)} for {len(rows)}")
    pictures = [pictures_of(row) for row in rows]
    text = processor.apply_chat_template(
        [_with_placeholders(row["prompt"], len(p)) for row, p in zip(rows, pictures, strict=True)],
        tokenize=False,
        add_generation_prompt=True,
    )
    inputs = dict(
        processor(
            text=text,
            images=pictures if any(pictures) else None,
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
    )
    ids, mask = _pad_responses(processor.tokenizer, responses or [], len(rows))
    for name, extra in {
        "input_ids": ids,
        "attention_mask": mask.long(),
        "mm_token_type_ids": torch.zeros_like(ids),
    }.items():
        if name in inputs:
            inputs[name] = torch.cat([inputs[name], extra], dim=1)
    return Encoded(inputs, ids, mask, [len(p) for p in pictures], pictures)


def pictures_of(row: Mapping[str, Any]) -> list[Image.Image]:
    """The row's pictures, from its column `images` or `image`, in RGB.

    Palette and grey pictures would otherwise change their meaning under a view (T11).
    """
    name, found = row.get("id", "?"), []
    single = [row["image"]] if row.get("image") is not None else []
    for picture in row.get("images") or single:
        if not isinstance(picture, Image.Image):
            raise ValueError(
                f"row {name!r}: images must be PIL pictures, got {type(picture).__name__}"
            )
        if 0 in picture.size:
            raise ValueError(f"row {name!r}: an image of size {picture.size} is empty")
        try:
            found.append(picture.convert("RGB"))
        except OSError as error:
            raise ValueError(f"row {name!r}: an image cannot be read: {error}") from error
    return found


def _with_placeholders(prompt: list[dict], count: int) -> list[dict]:
    """The messages with `count` image parts ahead of the first user text, as TRL places them."""
    messages = []
    for message in prompt:
        content = message["content"]
        if isinstance(content, str):
            images = [{"type": "image"}] * count if message["role"] == "user" else []
            count = 0 if images else count
            content = [*images, {"type": "text", "text": content}]
        messages.append({**message, "content": content})
    return messages


def _pad_responses(
    tokenizer: Any, responses: Sequence[str] | Sequence[Sequence[int]], n: int
) -> tuple[Tensor, Tensor]:
    if not responses:
        return torch.zeros(n, 0, dtype=torch.long), torch.zeros(n, 0, dtype=torch.bool)
    ids = [
        [*tokenizer(r, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        if isinstance(r, str)
        else list(r)
        for r in responses
    ]
    width = max(map(len, ids))
    padded = torch.full((n, width), tokenizer.pad_token_id)
    mask = torch.zeros(n, width, dtype=torch.bool)
    for row, tokens in enumerate(ids):
        padded[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = True
    return padded, mask
