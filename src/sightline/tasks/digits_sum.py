"""The sum of two real digits, in a response whose length and filler entropy are set.

The scans and scenes are those of `digits`. Two words of the thinking are read from the picture
and one carries the answer: 3 of `length`. Variants ask the same questions of the same pictures
under the same ids, so that lengths and fillers compare in pairs.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence

import numpy as np

from . import digits, responses, scenes
from .digits import NUMBERS

VOCABULARY: dict[str, list[str]] = {"left": NUMBERS[:10], "right": NUMBERS[:10]}
LOOK_ALIKES = {NUMBERS[a]: NUMBERS[b] for a, b in digits.LOOK_ALIKES.items()}
HARD = {*digits.LOOK_ALIKES, *digits.LOOK_ALIKES.values()}


def rows(
    n: int,
    seed: int = 0,
    split: str = "rl",
    instruction: str = "",
    *,
    length: int = 48,
    filler: str = "free",
) -> list[dict]:
    """`n` questions; `difficulty` counts the digits that have a look-alike.

    Args:
        length: words of thinking, at least 9; 12, 48 and 96 give 25, 6 and 3 % that matter.
        filler: `free` or `low` entropy.
    """
    return scenes.make_rows(
        "digits-sum", _draw, n, seed, split, instruction, length=length, filler=filler
    )


def twin(row: dict) -> dict:
    """The same text, both digits and the sum others."""
    return scenes.make_twin(_draw, row)


def solve(question: str, reads: Sequence[str]) -> str:
    """The sum, in digits."""
    return str(sum(NUMBERS.index(word) for word in reads))


_grammar = responses.Grammar(VOCABULARY, LOOK_ALIKES, solve)
demonstration, transcription = _grammar.demonstration, _grammar.transcription
spans, misread = _grammar.spans, _grammar.misread
readings, reading_accuracy = _grammar.readings, _grammar.reading_accuracy


def guess_rate() -> float:
    """Of who always says nine, the likeliest sum in every split."""
    return 0.10


def in_view(row: dict) -> list[str]:
    """The words for what the picture shows, from left to right."""
    return row["reads"]


def corpus() -> Iterator[str]:
    """Every word of a prompt or a response, the same for all variants."""
    return responses.corpus([digits.QUESTION], VOCABULARY)


def fingerprint(*, length: int = 48, filler: str = "free") -> str:
    """SHA-256 of the scans and of the settings."""
    made_of = json.dumps([digits.fingerprint(), length, filler])
    return hashlib.sha256(made_of.encode()).hexdigest()


def pick(rng: np.random.Generator, split: str) -> tuple[list[int], list[int]]:
    """Two scans of `split`, and the digits on them."""
    labels = digits.load_scans()[1]
    part = digits.SCANS[split]
    chosen = (part.start + rng.choice(part.stop - part.start, 2, replace=False)).tolist()
    return chosen, [int(labels[i]) for i in chosen]


def scene_of(chosen: Sequence[int], shown: Sequence[int]) -> scenes.Scene:
    """The scene of these scans, which show these digits."""
    return scenes.Scene(
        question=digits.QUESTION,
        reads=[NUMBERS[digit] for digit in shown],
        answer=str(sum(shown)),
        difficulty=sum(digit in HARD for digit in shown),
        sources=[f"scan-{i}" for i in chosen],
        paint=lambda rng: digits.paint_scene(digits.load_scans()[0][chosen], rng),
    )


def _draw(rng: np.random.Generator, split: str, question: str | None) -> scenes.Scene:
    return scene_of(*pick(rng, split))
