"""Where each model family keeps its images: all that a view has to know of an architecture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Family:
    """A decoder that finds an image as a run of placeholder tokens, in positions that count tokens.

    This is enough to hide the image. A family with other position ids overrides ``position_ids``;
    one whose pixels a view may change, ``map_images``.

    Args:
        drops: leaving the image tokens out, with the positions of the rest kept, gives the same
            log-probs as hiding them. Not so with attention windows counted in tokens, experts of
            limited capacity or cross-attention.
        delimiters: names in the model's config of the tokens around an image, or None if there is
            more around it than a text-only prompt could simply leave out.
        one_run: an image is a single run of placeholder tokens whatever its size, and the
            processor adds nothing between or around them: one token can stand for it where another
            engine (vLLM) lays it out.
    """

    drops: bool = False
    delimiters: tuple[str, ...] | None = None
    one_run: bool = False

    @property
    def changes_pixels(self) -> bool:
        """Whether views may change the pixels: the family has a `map_images` of its own."""
        return type(self).map_images is not Family.map_images

    def find_image(self, config: Any, ids: Int[Tensor, "B S"]) -> Bool[Tensor, "B S"]:
        """The positions into which image features are written."""
        return ids == config.image_token_id

    def find_delimiters(self, config: Any, ids: Int[Tensor, "B S"]) -> Bool[Tensor, "B S"]:
        """The tokens around the images."""
        if self.delimiters is None:
            raise ValueError(
                f"TextOnlyPrompt is not known for {config.model_type!r}: use Blind, or name the "
                "family's delimiters"
            )
        around = [getattr(config, name) for name in self.delimiters]
        return torch.isin(ids, torch.tensor(around, device=ids.device))

    def count_features(self, config: Any, inputs: dict[str, Tensor]) -> list[int] | None:
        """Image tokens that each image needs, or None where the model itself checks that."""
        return None

    def position_ids(self, model: Any, inputs: dict[str, Tensor]) -> Int[Tensor, "*axes B S"]:
        """The position ids that the model would give `inputs`."""
        return self.text_positions(inputs["attention_mask"])

    def text_positions(self, attention: Int[Tensor, "B S"]) -> Int[Tensor, "*axes B S"]:
        """The position ids of a text without images."""
        return (attention.cumsum(1) - 1).clamp(min=0)

    def map_images(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        normalization: tuple[Sequence[float], Sequence[float]],
        change: Callable[[int, Float[Tensor, "3 H W"], int, int], Float[Tensor, "3 H W"]],
    ) -> dict[str, Tensor]:
        """`inputs` with `change(index, image, patch, merge)` in the place of each image.

        Args:
            normalization: mean and standard deviation per channel, as the processor applied them.
            change: takes and returns channels in [0, 1]; see `PixelView.change`.
        """
        raise ValueError(
            f"views that change pixels are not known for {model.config.model_type!r}, whose images "
            "come as overlapping tiles: use Blind, or write Family.map_images"
        )


@dataclass(frozen=True)
class QwenVL(Family):
    """Qwen2-VL and its heirs: M-RoPE positions; patches flat over images, in the order of cells."""

    drops: bool = True
    delimiters: tuple[str, ...] | None = ("vision_start_token_id", "vision_end_token_id")
    one_run: bool = True

    def count_features(self, config: Any, inputs: dict[str, Tensor]) -> list[int] | None:
        merged = config.vision_config.spatial_merge_size**2
        grids = inputs.get("image_grid_thw")
        return [] if grids is None else [int(grid.prod()) // merged for grid in grids]

    def position_ids(self, model: Any, inputs: dict[str, Tensor]) -> Int[Tensor, "*axes B S"]:
        positions, _ = model.base_model.get_rope_index(
            inputs["input_ids"],
            mm_token_type_ids=self.find_image(model.config, inputs["input_ids"]).int(),
            image_grid_thw=inputs.get("image_grid_thw"),
            attention_mask=inputs["attention_mask"],
        )
        return positions

    def text_positions(self, attention: Int[Tensor, "B S"]) -> Int[Tensor, "*axes B S"]:
        return super().text_positions(attention).expand(3, -1, -1)

    def map_images(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        normalization: tuple[Sequence[float], Sequence[float]],
        change: Callable[[int, Float[Tensor, "3 H W"], int, int], Float[Tensor, "3 H W"]],
    ) -> dict[str, Tensor]:
        vision = model.config.vision_config
        patch, merge = vision.patch_size, vision.spatial_merge_size
        patches, grids = inputs["pixel_values"], inputs["image_grid_thw"]
        if patches.ndim != 2:
            raise ValueError(
                f"pixel_values must be (patches, features), got the shape {tuple(patches.shape)}"
            )
        mean, std = (torch.tensor(n, device=patches.device)[:, None, None] for n in normalization)
        changed = []
        for index, (rows, grid) in enumerate(
            zip(patches.split(grids.prod(1).tolist()), grids.tolist(), strict=True)
        ):
            before = (_unfold(rows, grid, patch, merge).float() * std + mean).clamp(0, 1)
            after = change(index, before, patch, merge)
            # where nothing changed, but for rounding, the processor's own bits stay
            touched = _fold(((after - before).abs() > 1e-6).to(rows), rows, patch, merge).bool()
            folded = _fold(((after - mean) / std).to(rows), rows, patch, merge)
            changed.append(torch.where(touched, folded, rows))
        return {**inputs, "pixel_values": torch.cat(changed)}


def _unfold(
    rows: Float[Tensor, "N F"], grid: list[int], patch: int, merge: int
) -> Float[Tensor, "3 H W"]:
    """Flat patches → the picture. A patch holds the same picture once per temporal copy."""
    _, high, wide = grid
    cells = rows.reshape(high // merge, wide // merge, merge, merge, 3, -1, patch, patch)
    picture = cells[:, :, :, :, :, 0].permute(4, 0, 2, 5, 1, 3, 6)
    return picture.reshape(3, high * patch, wide * patch)


def _fold(
    picture: Float[Tensor, "3 H W"], rows: Float[Tensor, "N F"], patch: int, merge: int
) -> Float[Tensor, "N F"]:
    """The picture → flat patches shaped like `rows`, in every temporal copy."""
    side = patch * merge
    high, wide = picture.shape[1] // side, picture.shape[2] // side
    cells = picture.reshape(3, high, merge, patch, wide, merge, patch).permute(1, 4, 2, 5, 0, 3, 6)
    copies = rows.shape[1] // (3 * patch * patch)
    return cells.unsqueeze(5).expand(-1, -1, -1, -1, -1, copies, -1, -1).reshape(rows.shape)


FAMILIES: dict[str, Family] = {  # by `model_type`; the tests walk through each
    "qwen2_vl": QwenVL(),
    "qwen2_5_vl": QwenVL(),
    "qwen3_vl": QwenVL(),
    "llava_onevision": Family(one_run=True),
    "idefics3": Family(),
    "smolvlm": Family(),
}


def family_of(model_type: str) -> Family:
    """The family of a model's `config.model_type`."""
    if model_type not in FAMILIES:
        raise ValueError(
            f"cannot score the model family {model_type!r}; known: {', '.join(FAMILIES)}. If its "
            "config has an image_token_id, its decoder one placeholder per image feature and "
            f"plain position ids, add sightline.families.FAMILIES[{model_type!r}] = Family(); "
            "else a subclass with position_ids of its own"
        )
    return FAMILIES[model_type]


def picture_tokens(config: Any) -> set[int]:
    """Ids of the tokens that stand for picture content: one too many would shift the images."""
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    # by attribute: LLaVA's config stores them under other names, and maps these
    ids = (getattr(config, name, None) for name in names)
    return {token for token in ids if token is not None}
