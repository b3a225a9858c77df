"""What the model gets to see of the image.

A view never changes the text, the position ids, the size of an image or the response that is
scored. A `PixelView` is a function of one image and one seed; what the seed is made of
(`draw_seed`) survives shuffling, resuming and another number of processes.
"""

from dataclasses import KW_ONLY, dataclass, field
from hashlib import blake2b

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad

GRIDS = ("encoder", "source")
SOURCE_PATCH = 14  # pixels; what VPPO's code blackens, whatever the encoder's patch is


@dataclass(frozen=True)
class View:
    """One way of showing the image; a subclass says which, its fields how."""


@dataclass(frozen=True)
class Blind(View):
    """Nothing of the image: no position attends to an image token.

    The token sequence is the same, its text tokens keep their position ids, and the keys of all
    positions that carry image features are out of reach of every query; the delimiters around
    the image stay visible. PGPO (arXiv:2604.01840), App. A.1. The scorer carries this view out.

    Args:
        by: ``"drop"`` leaves the image tokens out and keeps the position ids of the rest, which is
            shorter and needs no vision tower; ``"mask"`` keeps them, hidden from attention. Both
            give the same log-probs where positions mix by attention alone. ``"auto"`` drops in
            the families where the tests prove that, and masks in the others.
        image: hides only this one of a row's images, counted from 0, by masking: which image did a
            token read? A row that has none of this number is left as it is, and scores 0.
    """

    by: str = "auto"
    image: int | None = None

    def __post_init__(self):
        _check_choice("by", self.by, ("auto", "drop", "mask"))
        if self.image is None:
            return
        if self.image < 0:
            raise ValueError(f"image must be at least 0, got {self.image}")
        if self.by == "drop":
            raise ValueError("one image is hidden by masking: leave by='drop' out")


@dataclass(frozen=True)
class TextOnlyPrompt(View):
    """The same conversation without the image: no image tokens, no delimiters, new position ids.

    Another quantity than `Blind`, in which the text keeps its place: here it moves, and a part of
    the dependency is the price of moving (T2).
    """


@dataclass(frozen=True)
class SameImage(View):
    """The very same picture again: a control, whose every score must be exactly 0."""


@dataclass(frozen=True)
class PixelView(View):
    """Another picture of the same size in the image's place.

    Args:
        grid: ``"encoder"`` changes the pixels the encoder reads, after all resizing; ``"source"``
            changes the picture before the processor resizes it, as VPPO's code does, so that
            squares are rescaled, blurred and out of line with the encoder's patches (T8).
        per: ``"response"`` draws anew for each response, ``"prompt"`` once for all to a prompt.
    """

    _: KW_ONLY
    grid: str = "encoder"
    per: str = "response"

    def __post_init__(self):
        _check_choice("grid", self.grid, GRIDS)
        _check_choice("per", self.per, ("response", "prompt"))

    def change(
        self, image: Float[Tensor, "3 H W"], patch: int, merge: int, generator: torch.Generator
    ) -> Float[Tensor, "3 H W"]:
        """A new picture from `image`; channels in [0, 1], where 0 is black.

        Args:
            patch: side of a patch in pixels.
            merge: patches along one side of the cell that becomes one image token.
            generator: for all that is random; on the CPU, one per image.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class MaskPatches(PixelView):
    """Random black squares. VPPO (arXiv:2510.09285), section 3.1, and its code.

    An image token covers ``merge x merge`` patches, so with ``unit="patch"`` it is fully blind
    with probability ``probability ** 4`` only (T9).

    Args:
        probability: of each unit to be black; one draw each, rows outer, columns inner.
        unit: ``"patch"`` or ``"cell"``, an image token's patches together.
    """

    probability: float = 0.5
    unit: str = "patch"

    def __post_init__(self):
        super().__post_init__()
        _check_choice("unit", self.unit, ("patch", "cell"))
        if not 0 < self.probability <= 1:
            raise ValueError(f"probability must be in (0, 1], got {self.probability}")

    def change(
        self, image: Float[Tensor, "3 H W"], patch: int, merge: int, generator: torch.Generator
    ) -> Float[Tensor, "3 H W"]:
        side = patch * merge if self.unit == "cell" else patch
        height, width = image.shape[1:]
        shape = -(-height // side), -(-width // side)  # the last row and column may be cut
        black = torch.rand(shape, generator=generator) < self.probability
        black = black.repeat_interleave(side, 0).repeat_interleave(side, 1)[:height, :width]
        return image.masked_fill(black.to(image.device), 0)


@dataclass(frozen=True)
class AddNoise(PixelView):
    """Gaussian noise on every pixel and channel, clipped to [0, 1].

    A mild one (``std=0.1``) asks what a prediction is worth when the picture is a little worse;
    ``std=0.741, grid="source"`` destroys it, as in VPPO (arXiv:2510.09285), App. F.

    Args:
        std: of the noise, on channels in [0, 1].
    """

    std: float = 0.1
    per: str = field(default="prompt", kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.std < float("inf"):
            raise ValueError(f"std must be above 0 and finite, got {self.std}")

    def change(
        self, image: Float[Tensor, "3 H W"], patch: int, merge: int, generator: torch.Generator
    ) -> Float[Tensor, "3 H W"]:
        noise = torch.randn(image.shape, generator=generator).to(image)
        return (image + self.std * noise).clamp(0, 1)


@dataclass(frozen=True)
class GaussianBlur(PixelView):
    """The picture out of focus. VPPO (arXiv:2510.09285), App. F, with radius 6.

    Args:
        radius: standard deviation of the kernel in pixels; it is cut off at three of them.
    """

    radius: float = 6.0

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.radius < float("inf"):
            raise ValueError(f"radius must be above 0 and finite, got {self.radius}")

    def change(
        self, image: Float[Tensor, "3 H W"], patch: int, merge: int, generator: torch.Generator
    ) -> Float[Tensor, "3 H W"]:
        reach = max(1, round(3 * self.radius))
        offsets = torch.arange(-reach, reach + 1, device=image.device)
        kernel = (-offsets.square() / (2 * self.radius**2)).exp()
        kernel = (kernel / kernel.sum()).to(image)[None, None, None]
        # one channel at a time, along rows and then along columns; the edge pixel goes on outside
        rows = conv2d(pad(image[:, None], (reach, reach, 0, 0), "replicate"), kernel)
        blurred = conv2d(pad(rows, (0, 0, reach, reach), "replicate"), kernel.transpose(2, 3))
        return blurred[:, 0]


@dataclass(frozen=True)
class Gray(PixelView):
    """One flat colour, (128, 128, 128) of 255: VPPO (arXiv:2510.09285), App. F, complete mask."""

    def change(
        self, image: Float[Tensor, "3 H W"], patch: int, merge: int, generator: torch.Generator
    ) -> Float[Tensor, "3 H W"]:
        return torch.full_like(image, 128 / 255)


@dataclass(frozen=True)
class OtherImage(View):
    """The image of the next row that has another one, resized to this one's place: a control.

    It needs a batch in which not all rows show the same image, and hangs on the order of its rows.
    """


def draw_seed(run_seed: int, step: int, prompt: str, response: int | None, image: int, view: str):
    """The 64-bit seed of one draw, from what names it and from nothing else (T14).

    Args:
        response: place among the responses to the prompt; None if the draw is shared by all.
        image: place among the images of the prompt.
        view: the name under which the algorithm reads the view.
    """
    key = repr((run_seed, step, prompt, "prompt" if response is None else response, image, view))
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") >> 1


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {known}, got {value!r}")
