"""The control with a picture that does not matter: `text-only`'s questions beside pure noise.

Dependency on the image should be near 0 on every token, and whatever a rule gains from pressure to
look at the picture is an artefact.
"""

import hashlib

import numpy as np
from PIL import Image

from . import scenes, text_only
from .text_only import (
    LOOK_ALIKES,
    VOCABULARY,
    corpus,
    demonstration,
    guess_rate,
    misread,
    reading_accuracy,
    readings,
    solve,
    spans,
    transcription,
)

SIDE = 48

__all__ = [
    "LOOK_ALIKES",
    "VOCABULARY",
    "corpus",
    "demonstration",
    "fingerprint",
    "guess_rate",
    "misread",
    "reading_accuracy",
    "readings",
    "rows",
    "solve",
    "spans",
    "transcription",
    "twin",
]


def rows(
    n: int,
    seed: int = 0,
    split: str = "rl",
    instruction: str = "",
    *,
    length: int = 48,
    filler: str = "free",
) -> list[dict]:
    """As `text_only.rows`, each with a picture of noise."""
    return scenes.make_rows(
        "irrelevant", _draw, n, seed, split, instruction, length=length, filler=filler
    )


def twin(row: dict) -> dict:
    """The same text and other noise. The answer stays, because the text decides it."""
    return scenes.make_twin(_draw, row, same_reads=True)


def fingerprint(*, length: int = 48, filler: str = "free") -> str:
    """SHA-256 of the questions, the size of the noise and the settings."""
    made_of = text_only.fingerprint(length=length, filler=filler) + f" noise {SIDE}"
    return hashlib.sha256(made_of.encode()).hexdigest()


def _draw(rng: np.random.Generator, split: str, question: str | None) -> scenes.Scene:
    return text_only.draw(rng, split, question, _noise)


def _noise(rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
