"""A question with its response, as it stands in a file, checked."""

from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from ..data import Limits, decode
from ..data.images import name_of


@dataclass(frozen=True)
class Answered:
    """A question, and a response to it unless one is still to be sampled.

    Args:
        id: of the response, the only one of its name.
        prompt_id: of the question, shared by all responses to it.
        sample: place of the response among those.
        prompt: chat messages.
        cells: of the images, not decoded.
        digests: a hash of each image's bytes.
        text: the response as given, or None.
        ids: the response's tokens as given, or None.
        finished: False for one that was cut off, which has no end token.
        spans: labelled character ranges of the response.
        labels: of each of `ids`.
        step: of training, at which the response was given.
    """

    id: str
    prompt_id: str
    sample: int
    prompt: list[dict[str, Any]]
    cells: list[Any] = field(repr=False)
    digests: tuple[str, ...]
    text: str | None
    ids: list[int] | None
    finished: bool = True
    gold: str = ""
    reward: float | None = None
    reward_reason: str = ""
    spans: list[tuple[int, int, str]] | None = None
    labels: list[str] | None = None
    split: str = ""
    step: float | None = None

    def row(self, limits: Limits) -> dict[str, Any]:
        """In the columns that `encode` takes, with its pictures decoded."""
        pictures = [self._picture(cell, limits) for cell in self.cells]
        return {"id": self.id, "prompt": self.prompt, "images": pictures, "answer": self.gold}

    def _picture(self, cell: Any, limits: Limits) -> Image.Image:
        try:
            return decode(cell, limits)
        except ValueError as error:
            raise ValueError(f"row {self.id!r}, image {name_of(cell)!r}: {error}") from error
