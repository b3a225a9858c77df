"""A view carried out: the inputs of a clean pass → those of the same rows under the view."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from .draws import Draws
from .encoding import Encoded
from .families import Family, family_of
from .views import (
    SOURCE_PATCH,
    Blind,
    OtherImage,
    PixelView,
    SameImage,
    TextOnlyPrompt,
    View,
    draw_seed,
)

SOURCE_PIXELS = 200_704, 1_003_520  # least and most; VPPO's code resizes to these before it masks


class ViewInputs:
    """Makes the inputs of each view for any rows of `responses`.

    Args:
        model: the Hugging Face model itself, without wrappers.
        processor: the model's, or None if no view changes pixels.
        draws: likewise.
    """

    def __init__(
        self,
        model: Any,
        family: Family,
        responses: Encoded,
        processor: Any,
        draws: Draws | None,
    ):
        self.model, self.family, self.responses = model, family, responses
        self.processor, self.draws = processor, draws
        self._unchanged: dict[str, bool] = {}  # per view that changes pixels
        self._pictures: list[Tensor] = []  # of all rows, once a view asks for them

    def check(self, name: str, view: View) -> None:
        """Raise if the view cannot be carried out on these responses."""
        if isinstance(view, Blind):
            if view.by == "drop" and not self.family.drops:
                raise ValueError(
                    f"view {name!r}: Blind(by='drop') is not proven for "
                    f"{self.model.config.model_type!r}: use Blind(by='mask')"
                )
            if view.image is not None and not self.family.changes_pixels:
                raise ValueError(
                    f"view {name!r}: which image tokens are those of one image is not known for "
                    f"{self.model.config.model_type!r}, whose images come as tiles: hide them all"
                )
        elif isinstance(view, TextOnlyPrompt):
            self.family.find_delimiters(self.model.config, self.responses.inputs["input_ids"])
        elif isinstance(view, PixelView | OtherImage):
            if self.processor is None:
                raise ValueError(f"view {name!r}: {type(view).__name__} needs processor=")
            if isinstance(view, PixelView) and self.draws is None:
                raise ValueError(
                    f"view {name!r}: {type(view).__name__} needs draws=, for example "
                    "Draws.of(rows, seed)"
                )
            if isinstance(view, PixelView) and view.grid == "source":
                if self.responses.pictures is None:
                    raise ValueError(
                        f"view {name!r}: grid='source' changes the pictures themselves: "
                        "responses must hold them in Encoded.pictures"
                    )
        elif not isinstance(view, SameImage):
            raise TypeError(
                f"view {name!r} is a {type(view).__name__}; known are Blind, TextOnlyPrompt, "
                "SameImage, OtherImage and subclasses of PixelView"
            )

    def __call__(
        self, name: str, view: View, clean: dict[str, Tensor], rows: Sequence[int]
    ) -> dict[str, Tensor]:
        """The inputs of `rows` under `view`, from `clean`, which is left as it is (T17).

        Args:
            clean: what the model is called with for these rows, position ids included.
        """
        if isinstance(view, Blind):
            return (
                self._blind(view, clean) if view.image is None else self._without_one(view, clean)
            )
        if isinstance(view, TextOnlyPrompt):
            return self._text_only(clean)
        if isinstance(view, SameImage):
            return dict(clean)
        if isinstance(view, OtherImage):
            inputs = self._other_images(clean, rows)
        else:
            assert isinstance(view, PixelView)
            inputs = self._changed_pixels(name, view, clean, rows)
        same = torch.equal(inputs["pixel_values"], clean["pixel_values"])
        self._unchanged[name] = self._unchanged.get(name, True) and same
        return inputs

    def check_done(self) -> None:
        """Raise if a view left every image as it was: its scores would all be 0 (T7)."""
        if same := [name for name, unchanged in self._unchanged.items() if unchanged]:
            raise ValueError(
                f"view {same[0]!r} changed no pixel of the images it was given: every dependency "
                "would be 0. Are they black already, or is it too weak for so few of them?"
            )

    def _blind(self, view: Blind, clean: dict[str, Tensor]) -> dict[str, Tensor]:
        """`clean` with its image tokens out of reach; no pixels, as nothing attends to them."""
        image = self.family.find_image(self.model.config, clean["input_ids"])
        if view.by == "mask" or not self.family.drops:
            return {
                "input_ids": clean["input_ids"],
                "attention_mask": clean["attention_mask"].masked_fill(image, 0),
                "position_ids": clean["position_ids"],
            }
        return self._without(image, clean)

    def _without_one(self, view: Blind, clean: dict[str, Tensor]) -> dict[str, Tensor]:
        """`clean` with the tokens of one image out of reach: those of its run of image tokens."""
        image = self.family.find_image(self.model.config, clean["input_ids"])
        before = torch.zeros_like(image[:, :1])
        begins = image & ~torch.cat([before, image[:, :-1]], dim=1)  # delimiters lie between two
        hidden = image & (begins.cumsum(1) - 1 == view.image)
        return {**clean, "attention_mask": clean["attention_mask"].masked_fill(hidden, 0)}

    def _text_only(self, clean: dict[str, Tensor]) -> dict[str, Tensor]:
        ids, config = clean["input_ids"], self.model.config
        gone = self.family.find_image(config, ids) | self.family.find_delimiters(config, ids)
        inputs = self._without(gone, clean)
        return {**inputs, "position_ids": self.family.text_positions(inputs["attention_mask"])}

    def _without(self, gone: Tensor, clean: dict[str, Tensor]) -> dict[str, Tensor]:
        """`clean` without these tokens; the kept ones keep their order and their positions."""
        ids, attention, positions = (
            clean[name] for name in ("input_ids", "attention_mask", "position_ids")
        )
        kept = attention.bool() & ~gone
        kept[:, ids.shape[1] - self.responses.mask.shape[1] :] = True  # response columns line up
        # against the right edge, which is left padding for the prompt
        longest = int(kept.sum(1).max())
        source = kept.long().argsort(dim=1, stable=True)[:, -longest:]
        return {
            "input_ids": ids.gather(1, source),
            "attention_mask": (attention * kept).gather(1, source),
            "position_ids": positions.gather(-1, source.expand(*positions.shape[:-1], -1)),
        }

    def _changed_pixels(
        self, name: str, view: PixelView, clean: dict[str, Tensor], rows: Sequence[int]
    ) -> dict[str, Tensor]:
        assert self.draws is not None
        generators = [
            torch.Generator().manual_seed(
                draw_seed(
                    self.draws.seed,
                    self.draws.step,
                    self.draws.prompts[row],
                    self.draws.responses[row] if view.per == "response" else None,
                    image,
                    name,
                )
            )
            for row in rows
            for image in range(self.responses.num_images[row])
        ]
        if view.grid == "source":
            return self._changed_sources(view, clean, rows, generators)
        return self.family.map_images(
            self.model,
            clean,
            normalization(self.processor),
            lambda index, image, patch, merge: view.change(image, patch, merge, generators[index]),
        )

    def _changed_sources(
        self,
        view: PixelView,
        clean: dict[str, Tensor],
        rows: Sequence[int],
        generators: Sequence[torch.Generator],
    ) -> dict[str, Tensor]:
        """Each picture resized, changed and only then processed, in the order of VPPO's code."""
        assert self.responses.pictures is not None
        pictures = [picture for row in rows for picture in self.responses.pictures[row]]
        changed = []
        for picture, generator in zip(pictures, generators, strict=True):
            values = torch.tensor(np.asarray(to_source_size(picture))).permute(2, 0, 1) / 255
            after = view.change(values, SOURCE_PATCH, 2, generator) * 255
            # cast to 8 bits as the authors' code does, which cuts off; 1e-3 undoes only rounding
            pixels = (after + 1e-3).clamp(0, 255).byte().permute(1, 2, 0).numpy()
            changed.append(Image.fromarray(pixels))
        made = self.processor.image_processor(images=changed, return_tensors="pt")
        grids, wanted = made["image_grid_thw"], clean["image_grid_thw"]
        if not torch.equal(grids, wanted.cpu()):
            raise ValueError(
                f"grid='source' resizes to between {SOURCE_PIXELS[0]:,} and {SOURCE_PIXELS[1]:,} "
                f"pixels first, and the processor then makes patches {grids.tolist()} instead of "
                f"{wanted.tolist()}: resize the data to that range, or use grid='encoder'"
            )
        return {**clean, "pixel_values": made["pixel_values"].to(clean["pixel_values"])}

    def _other_images(self, clean: dict[str, Tensor], rows: Sequence[int]) -> dict[str, Tensor]:
        """Each image replaced by the next one of the batch that is another picture."""
        owners = [row for row in rows for _ in range(self.responses.num_images[row])]
        pictures = self._pictures_by_row()

        def other(index: int, image: Tensor, _patch: int, _merge: int) -> Tensor:
            row = owners[index]
            for candidate in [
                p for later in (*pictures[row + 1 :], *pictures[:row]) for p in later
            ]:
                if not torch.equal(candidate, image):
                    size = (int(image.shape[1]), int(image.shape[2]))
                    resized = interpolate(candidate[None], size, mode="bilinear", antialias=True)
                    return resized[0].clamp(0, 1)
            raise ValueError("OtherImage needs rows with different images, all here show the same")

        return self.family.map_images(self.model, clean, normalization(self.processor), other)

    def _pictures_by_row(self) -> list[list[Tensor]]:
        if not self._pictures:

            def collect(_index: int, image: Tensor, _patch: int, _merge: int) -> Tensor:
                self._pictures.append(image)
                return image

            inputs = self.responses.inputs
            self.family.map_images(self.model, inputs, normalization(self.processor), collect)
        left = iter(self._pictures)
        return [[next(left) for _ in range(count)] for count in self.responses.num_images]


def pictures_under(
    model: Any,
    processor: Any,
    responses: Encoded,
    name: str,
    view: PixelView | OtherImage,
    draws: Draws | None,
) -> list[list[Image.Image]]:
    """Per row, its pictures as the model's encoder got them under a view, for somebody to look at.

    Args:
        name: of the view, on which its draws hang.
    """
    family = family_of(model.config.model_type)
    change = ViewInputs(model, family, responses, processor, draws)
    change.check(name, view)
    rows = [row for row, count in enumerate(responses.num_images) if count]
    found: list[Image.Image] = []

    def collect(_index: int, image: Tensor, _patch: int, _merge: int) -> Tensor:
        values = (image * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        found.append(Image.fromarray(values))
        return image

    if rows:
        inputs = change(name, view, responses.select(rows).inputs, rows)
        family.map_images(model, inputs, normalization(processor), collect)
    left = iter(found)
    return [[next(left) for _ in range(count)] for count in responses.num_images]


def to_source_size(picture: Image.Image) -> Image.Image:
    """The picture scaled into `SOURCE_PIXELS` if it lies outside, as VPPO's code scales it.

    Both sides are cut down to whole pixels, so that 100 x 100 becomes 447 x 447: just below.
    """
    width, height = picture.size
    least, most = SOURCE_PIXELS
    limit = most if width * height > most else least if width * height < least else None
    if limit is None:
        return picture
    scale = (limit / (width * height)) ** 0.5
    return picture.resize((int(width * scale), int(height * scale)))


def normalization(processor: Any) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel, as the processor's image half applies them."""
    images = processor.image_processor
    if not images.do_normalize:
        return [0.0] * 3, [1.0] * 3
    return list(images.image_mean), list(images.image_std)
