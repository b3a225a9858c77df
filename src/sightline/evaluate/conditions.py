"""Which image a question is asked with: its own, none, or another row's."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from PIL import Image

from ..encoding import pictures_of
from ..other_images import other_row


def shown(row: Mapping[str, Any], condition: str, other: Mapping[str, Any] | None) -> dict:
    """The row as it is asked under `condition`.

    ``none`` is the prompt without its images, as one would ask it of a model that has no eyes: no
    image tokens and no markers around them. That is another thing than the view `Blind`, which
    keeps the tokens in place and hides them from attention.

    Args:
        other: the row whose images are shown instead.
    """
    if condition == "none":
        return {**row, "images": [], "image": None, "prompt": without_images(row["prompt"])}
    if condition == "other":
        assert other is not None, "there must be another row to take images from"
        return {**row, "images": pictures_of(other), "image": None}
    return dict(row)


def without_images(prompt: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages without image parts, and without the blanks that set them off."""
    messages = []
    for message in prompt:
        content = message["content"]
        if not isinstance(content, str):
            texts = [part["text"] for part in content if part["type"] == "text"]
            content = "".join(texts)
            content = content.lstrip() if len(texts) < len(message["content"]) else content
        messages.append({**message, "content": content})
    return messages


def other_rows(digests: Sequence[tuple[bytes, ...]]) -> list[int | None]:
    """For each row, the one whose images it is shown under ``other``.

    It has as many images; see `other_row`. None for a row that has no image, or finds no other.

    Args:
        digests: of each row's images.
    """
    found: list[int | None] = []
    for row, own in enumerate(digests):
        found.append(other_row(digests, row, as_many=True) if own else None)
    return found


def digest(pictures: Sequence[Image.Image]) -> tuple[bytes, ...]:
    """One hash per picture, of its size and pixels."""
    return tuple(
        blake2b(repr(p.size).encode() + p.tobytes(), digest_size=16).digest() for p in pictures
    )
