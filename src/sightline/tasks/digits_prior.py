"""`digits-sum` with a skewed prior: two in five of the answers are nine.

A policy earns two fifths of the reward without a look at the picture, so lucky guesses are
reinforced with every word that led to them. No twin's answer is nine: who guesses it is right on
40 % of the rows and on none of their twins.
"""

import hashlib
import json

import numpy as np

from . import digits, scenes
from .digits_sum import (
    LOOK_ALIKES,
    VOCABULARY,
    corpus,
    demonstration,
    in_view,
    misread,
    pick,
    reading_accuracy,
    readings,
    scene_of,
    solve,
    spans,
    transcription,
)

COMMON, SHARE = 9, 0.4

__all__ = [
    "LOOK_ALIKES",
    "VOCABULARY",
    "corpus",
    "demonstration",
    "fingerprint",
    "guess_rate",
    "in_view",
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
    """As `digits_sum.rows`, but the sum is `COMMON` in `SHARE` of the rows."""
    return scenes.make_rows(
        "digits-prior", _draw, n, seed, split, instruction, length=length, filler=filler
    )


def twin(row: dict) -> dict:
    """The same text, both digits others, and a sum that is neither the row's nor the common one."""
    return scenes.make_twin(_draw, row)


def guess_rate() -> float:
    """Of who always says nine."""
    return SHARE


def fingerprint(*, length: int = 48, filler: str = "free") -> str:
    """SHA-256 of the scans, the prior and the settings."""
    made_of = json.dumps([digits.fingerprint(), COMMON, SHARE, length, filler])
    return hashlib.sha256(made_of.encode()).hexdigest()


def _draw(rng: np.random.Generator, split: str, question: str | None) -> scenes.Scene:
    # Only a twin is drawn for a given question.
    common = question is None and rng.random() < SHARE
    while True:
        chosen, shown = pick(rng, split)
        if (sum(shown) == COMMON) == common:
            return scene_of(chosen, shown)
