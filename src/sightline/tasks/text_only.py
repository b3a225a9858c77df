"""The control without a picture: three numbers in the question, and their sum.

No token depends on an image, so every credit rule must weigh every token 1 and take the same
steps as GRPO, bit for bit. The numbers are copied from the text: none of them is `visual`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product

import numpy as np

from . import responses, scenes
from .digits import NUMBERS

SHARES = {"warm": 0.4, "rl": 0.4, "heldout": 0.2}
VOCABULARY: dict[str, list[str]] = dict.fromkeys(
    ("first", "second", "third"), NUMBERS[:7]
)  # they sum to 18 at most
LOOK_ALIKES = {"three": "four", "six": "five"}


def rows(
    n: int,
    seed: int = 0,
    split: str = "rl",
    instruction: str = "",
    *,
    length: int = 48,
    filler: str = "free",
) -> list[dict]:
    """`n` questions without `images`; three numbers in this order are asked in one split only.

    `difficulty` is the sum. There is no picture to exchange, hence no twin: `twin_id` is None.
    """
    made = scenes.make_rows(
        "text-only", draw, n, seed, split, instruction, length=length, filler=filler
    )
    return [{**row, "twin_id": None} for row in made]


def twin(row: dict) -> None:
    """None: there is no picture to exchange."""


def solve(question: str, reads: Sequence[str]) -> str:
    """The sum, in digits."""
    return str(sum(NUMBERS.index(word) for word in reads))


_grammar = responses.Grammar(VOCABULARY, LOOK_ALIKES, solve, visual=False)
demonstration, transcription = _grammar.demonstration, _grammar.transcription
spans, misread = _grammar.spans, _grammar.misread
readings, reading_accuracy = _grammar.readings, _grammar.reading_accuracy


def guess_rate() -> float:
    """Of who reads the question: it holds the answer."""
    return 1.0


def corpus() -> Iterator[str]:
    """Every word of a prompt or a response."""
    return responses.corpus([ask(NUMBERS[:3]), *NUMBERS[:7]], VOCABULARY)


def fingerprint(*, length: int = 48, filler: str = "free") -> str:
    """SHA-256 of the questions of each split, and of the settings."""
    return hashlib.sha256(f"{sorted(_dealt().items())} {length} {filler}".encode()).hexdigest()


def ask(words: Sequence[str]) -> str:
    """The question about these numbers."""
    return "what is the sum of " + " and ".join(words) + " ?"


def draw(
    rng: np.random.Generator, split: str, question: str | None, paint: scenes.Paint | None = None
) -> scenes.Scene:
    """A question of `split`, with the picture that `paint` makes."""
    questions = _dealt()[split]
    question = question or questions[int(rng.integers(len(questions)))]
    reads = [word for word in question.split() if word in NUMBERS]
    answer = solve(question, reads)
    return scenes.Scene(question, reads, answer, int(answer), [question], paint)


@cache
def _dealt() -> dict[str, list[str]]:
    return scenes.deal([ask(words) for words in product(NUMBERS[:7], repeat=3)], SHARES)
