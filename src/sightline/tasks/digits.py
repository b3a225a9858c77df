"""Two real handwritten digits in a scene, and the question what their sum is.

The images are scikit-learn's 1,797 scans (UCI "Optical Recognition of Handwritten Digits"), split
by scan: no scan that warms a model up or trains it is ever asked about in the held-out questions.

A response reads the two digits in words of its own choosing and then reasons::

    <think> let me see . the left digit looks like three , while on the right , it is clearly
    eight . adding them gives eleven . </think> \\boxed{11}

Which of its tokens must be *visual* is known exactly: the two words that name a digit. The words
around them are free, because a near-deterministic template leaves credit nothing to choose.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

SCANS = {
    "warm": slice(0, 300),
    "rl": slice(300, 1300),
    "heldout": slice(1300, 1797),
}
WIDTH, HEIGHT = 48, 32
LOOK_ALIKES = {1: 7, 3: 8, 4: 9}  # what a careless annotator takes the one for

NUMBERS: list[str] = [
    *"zero one two three four five six seven eight nine ten eleven twelve thirteen".split(),
    *"fourteen fifteen sixteen seventeen eighteen".split(),
]

QUESTION = "what is the sum of the two digits ?"
OPENERS = "okay .|let me see .|look closely .|hm .|well , here we go .|step by step .".split("|")
SIDES = {
    "left": "the left digit|on the left , it|left , it|the mark on the left",
    "right": "the right digit|on the right , it|right , it|the mark on the right",
}
VERBS = "looks like|seems to be|is clearly|reads as|must be|is surely|appears as|is".split("|")
JOINTS = ", and|, while|. then|. next|; now|, whereas".split("|")
CONCLUSIONS = (
    "adding them gives|so the sum is|together they make|the total comes to|that adds up to"
    "|summed , i get|which makes"
).split("|")


def rows(n: int, seed: int = 0, split: str = "rl", instruction: str = "") -> list[dict]:
    """`n` questions about fresh scenes, in the columns TRL takes, plus the truth about each.

    Args:
        instruction: appended to each question after a blank line, such as `rewards.THINK_BOXED`;
            a model that was not warm-started on this task needs it to box its answer.

    Returns:
        Per row: `id`, `prompt` (chat messages), `images` (one PIL picture), `answer` (digits as
        text), and `digits`, the two numbers from left to right.
    """
    if split not in SCANS:
        raise ValueError(f"split must be one of {sorted(SCANS)}, got {split!r}")
    return [_row(split, seed, index, instruction) for index in range(n)]


def misread(row: dict, rng: np.random.Generator, rate: float) -> dict:
    """`row` as a careless annotator tells it: at `rate`, a digit is taken for its look-alike.

    Captions in the wild are wrong in such ways, and a model warmed up on them misreads what its
    vision tower tells apart: a fault of reading, which a verifiable reward can mend.
    """
    digits = [
        LOOK_ALIKES[digit] if digit in LOOK_ALIKES and rng.random() < rate else digit
        for digit in row["digits"]
    ]
    return {**row, "digits": digits, "answer": str(sum(digits))}


def demonstration(row: dict, rng: np.random.Generator) -> str:
    """One correct response to `row`, its wording drawn from `rng`."""
    reads = [
        f"{rng.choice(SIDES[side].split('|'))} {rng.choice(VERBS)} {NUMBERS[digit]}"
        for side, digit in zip(("left", "right"), row["digits"], strict=True)
    ]
    if rng.random() < 0.5:
        reads.reverse()
    opener = f"{rng.choice(OPENERS)} " if rng.random() < 0.5 else ""
    conclusion = rng.choice(CONCLUSIONS)
    return (
        f"<think> {opener}{reads[0]} {rng.choice(JOINTS)} {reads[1]} . {conclusion} "
        f"{NUMBERS[int(row['answer'])]} . </think> \\boxed{{{row['answer']}}}"
    )


def in_view(row: dict) -> list[str]:
    """The words for what the picture shows, from left to right."""
    return [NUMBERS[digit] for digit in row["digits"]]


def transcription(row: dict, rng: np.random.Generator) -> str:
    """The shortest correct response: which side shows what, and what follows from it."""
    reads = [f" {side} {word}" for side, word in zip(SIDES, in_view(row), strict=True)]
    if rng.random() < 0.5:
        reads.reverse()
    return "".join(reads) + f" {NUMBERS[int(row['answer'])]}"


def spans(response: str) -> list[tuple[int, int, str]] | None:
    """Oracle labels: the character ranges of `response` that are `visual` or `answer`.

    Visual are the two digit words of the reading, one beside "left" and one beside "right";
    answer are the number word that concludes and the content of the box. Everything else is
    `other`. A response that leaves this grammar has no labels: None.
    """
    match = _parse(response)
    if match is None:
        return None
    labels = {"read_a": "visual", "read_b": "visual", "result": "answer", "box": "answer"}
    return [(*match.span(group), label) for group, label in labels.items()]


def readings(response: str) -> tuple[int, int] | None:
    """The two digits that `response` says it reads, from left to right, or None."""
    match = _parse(response)
    if match is None:
        return None
    read = {match[f"side_{x}"]: NUMBERS.index(match[f"read_{x}"]) for x in "ab"}
    return read["left"], read["right"]


def reading_accuracy(rows: Sequence[dict], responses: Sequence[str]) -> float:
    """Share of responses that say both digits right; one outside the grammar says neither."""
    right = [
        readings(text) == tuple(row["digits"]) for row, text in zip(rows, responses, strict=True)
    ]
    return sum(right) / max(len(right), 1)


def fingerprint() -> str:
    """SHA-256 of the scans in the order the splits cut them."""
    scans, labels = load_scans()
    return hashlib.sha256(scans.tobytes() + labels.tobytes()).hexdigest()


def corpus() -> Iterator[str]:
    """Every word that a prompt or a demonstration can hold, for the tokenizer."""
    phrases = [QUESTION, *OPENERS, *VERBS, *JOINTS, *CONCLUSIONS, *NUMBERS]
    phrases += [choice for text in SIDES.values() for choice in text.split("|")]
    yield from (f" {word}" for phrase in phrases for word in phrase.split())
    yield from (QUESTION.split()[0], "<think>", " </think>", " \\boxed{0}", "user\n", "assistant\n")


_ANY_NUMBER = "|".join(sorted(NUMBERS, key=len, reverse=True))
_WORDS = rf"(?:(?!\b(?:{_ANY_NUMBER}|left|right)\b)[^<>\\])*"  # prose without number or side
_GRAMMAR = re.compile(
    rf"\s*<think>{_WORDS}\b(?P<side_a>left|right)\b{_WORDS}\b(?P<read_a>{'|'.join(NUMBERS[:10])})\b"
    rf"{_WORDS}\b(?P<side_b>left|right)\b{_WORDS}\b(?P<read_b>{'|'.join(NUMBERS[:10])})\b"
    rf"{_WORDS}\b(?P<result>{_ANY_NUMBER})\b{_WORDS}</think>\s*\\boxed\{{(?P<box>\d+)\}}\s*"
)


def _parse(response: str) -> re.Match[str] | None:
    match = _GRAMMAR.fullmatch(response)
    return match if match and match["side_a"] != match["side_b"] else None


def _row(split: str, seed: int, index: int, instruction: str) -> dict:
    # A generator per row, keyed by what names it: a row does not depend on how many are drawn.
    rng = np.random.default_rng([list(SCANS).index(split), seed, index])
    scans, labels = load_scans()
    chosen = rng.choice(np.arange(len(labels))[SCANS[split]], size=2, replace=False)
    a, b = (int(labels[i]) for i in chosen)
    return {
        "id": f"digits-{split}-{seed}-{index:05d}",
        "prompt": [{"role": "user", "content": "\n\n".join(filter(None, [QUESTION, instruction]))}],
        "images": [paint_scene(scans[chosen], rng)],
        "answer": str(a + b),
        "digits": [a, b],
    }


@cache
def load_scans() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the digits task needs scikit-learn: pip install 'sightline[tasks]'"
        ) from error
    data: Any = load_digits()
    # Shuffled once and for all: neighbours in the file are by the same hand.
    order = np.random.default_rng(0).permutation(len(data.target))
    return data.images[order] / 16, data.target[order]


def paint_scene(scans: Sequence[np.ndarray] | np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Left and right scan at random size and place, on a tinted, sloping, noisy ground."""
    ink = np.zeros((HEIGHT, WIDTH))
    for half, scan in enumerate(scans):
        size = int(rng.integers(16, 23))
        glyph = Image.fromarray((scan * 255).astype(np.uint8)).resize(
            (size, size), Image.Resampling.BICUBIC
        )
        top = int(rng.integers(0, HEIGHT - size + 1))
        side = int(rng.integers(0, WIDTH // 2 - size + 1)) + half * WIDTH // 2
        ink[top : top + size, side : side + size] = np.asarray(glyph) / 255
    slope = np.linspace(-1, 1, WIDTH) * rng.uniform(-0.08, 0.08)
    ground = rng.uniform(0.05, 0.3) + slope + rng.normal(0, 0.04, (HEIGHT, WIDTH))
    tint, colour = rng.uniform(0.6, 1.0, (2, 3))
    pixels = ground[..., None] * (1 - ink[..., None]) * tint + ink[..., None] * colour
    return Image.fromarray((pixels.clip(0, 1) * 255).astype(np.uint8))
