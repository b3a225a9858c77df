"""Read a bar chart, then compute: four bars of a real series, on lines that can be counted.

The series come with matplotlib: monthly share prices, daily prices of one share, and an EEG. Each
is cut into blocks of 25 samples that belong to one split; shares of the same dates go together.
Four words of the thinking are read from the chart, one concludes: 5 of 48. A wrong answer is a
slip of the eye if a bar is misread, and of arithmetic if none is.
"""

import csv
import hashlib
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from . import responses, scenes
from .digits import NUMBERS

WIDTH, HEIGHT = 64, 48
LEVELS, STEP, BASE = 8, 5, 45  # heights of 1 to 8, five pixels each, above row 45
BLOCK = 25
SHARES = {"warm": 0.3, "rl": 0.45, "heldout": 0.25}
DIFFERENCE = "how much higher is the highest bar than the lowest ?"
SUM = "what do the highest and the lowest bar add up to ?"
QUESTIONS = (DIFFERENCE, SUM)
VOCABULARY: dict[str, list[str]] = dict.fromkeys(
    ("first", "second", "third", "fourth"), NUMBERS[1 : LEVELS + 1]
)
LOOK_ALIKES = {"three": "four", "five": "six", "seven": "six"}  # a line is miscounted


def rows(
    n: int,
    seed: int = 0,
    split: str = "rl",
    instruction: str = "",
    *,
    length: int = 48,
    filler: str = "free",
) -> list[dict]:
    """`n` questions about highest and lowest; `difficulty` counts the different heights."""
    return scenes.make_rows(
        "charts", _draw, n, seed, split, instruction, length=length, filler=filler
    )


def twin(row: dict) -> dict:
    """The same text, every bar of another height, another answer."""
    return scenes.make_twin(_draw, row)


def solve(question: str, reads: Sequence[str]) -> str:
    """What `question` asks of bars of these heights, in digits."""
    heights = [NUMBERS.index(word) for word in reads]
    low, high = min(heights), max(heights)
    return str(high - low if question == DIFFERENCE else high + low)


_grammar = responses.Grammar(VOCABULARY, LOOK_ALIKES, solve)
demonstration, transcription = _grammar.demonstration, _grammar.transcription
spans, misread = _grammar.spans, _grammar.misread
readings, reading_accuracy = _grammar.readings, _grammar.reading_accuracy


def guess_rate() -> float:
    """Of any constant: 7 differences and 13 sums, each equally likely, half of each."""
    return (1 / 7 + 1 / 13) / 2


def in_view(row: dict) -> list[str]:
    """The words for what the picture shows, from left to right."""
    return row["reads"]


def corpus() -> Iterator[str]:
    """Every word of a prompt or a response."""
    return responses.corpus(QUESTIONS, VOCABULARY)


def fingerprint(*, length: int = 48, filler: str = "free") -> str:
    """SHA-256 of the series in the order of the blocks, and of the settings."""
    digest = hashlib.sha256(f"{length} {filler}".encode())
    for name, series in _blocks().items():
        digest.update(name.encode() + np.ascontiguousarray(series).tobytes())
    return digest.hexdigest()


def _draw(rng: np.random.Generator, split: str, question: str | None) -> scenes.Scene:
    question = question or str(rng.choice(QUESTIONS))
    # The answer first, so that each is equally likely; then a scale that gives it.
    answer = int(rng.integers(1, 8) if question == DIFFERENCE else rng.integers(3, 16))
    pairs = [
        (low, high)
        for low in range(1, LEVELS)
        for high in range(low + 1, LEVELS + 1)
        if (high - low if question == DIFFERENCE else high + low) == answer
    ]
    low, high = pairs[int(rng.integers(len(pairs)))]
    block, window = _window(rng, split)
    relative = (window - window.min()) / (window.max() - window.min())
    heights = np.round(low + relative * (high - low)).astype(int).tolist()
    return scenes.Scene(
        question=question,
        reads=[NUMBERS[height] for height in heights],
        answer=str(answer),
        difficulty=len(set(heights)),
        sources=[block],
        paint=lambda rng: _paint(heights, rng),
    )


def _window(rng: np.random.Generator, split: str) -> tuple[str, np.ndarray]:
    """Four samples at an even distance out of one block, not all alike."""
    while True:
        names = _dealt()[rng.choice(list(_dealt()))][split]
        block = names[int(rng.integers(len(names)))]
        series = _blocks()[block]
        line = series[int(rng.integers(len(series)))]
        apart = int(rng.integers(1, 7))
        start = int(rng.integers(0, BLOCK - 3 * apart))
        window = line[start : start + 3 * apart + 1 : apart]
        if np.isfinite(window).all() and window.max() > window.min():
            return block, window


@cache
def _blocks() -> dict[str, np.ndarray]:
    """The series, cut: per block its lines of `BLOCK` samples, all of the same time."""
    folder = "mpl-data/sample_data"
    with open(scenes.wheel_file("matplotlib", f"{folder}/Stocks.csv"), encoding="utf-8") as lines:
        table = list(csv.reader(line for line in lines if not line.startswith("#")))
    # GOOGL is left out: goog.npz holds the same share. Lines without a price of IBM are dividends.
    columns = [i for i, name in enumerate(table[0]) if name not in ("Date", "GOOGL")]
    prices = [[float(line[i] or "nan") for i in columns] for line in table[1:] if line[1]]
    stocks = np.array(prices).T
    with np.load(scenes.wheel_file("matplotlib", f"{folder}/goog.npz")) as archive:
        goog = archive["price_data"]["close"][None]
    eeg = np.fromfile(scenes.wheel_file("matplotlib", f"{folder}/eeg.dat"), "<f8")
    return {
        f"{name}-{start // BLOCK}": series[:, start : start + BLOCK]
        for name, series in {"stocks": stocks, "goog": goog, "eeg": eeg.reshape(-1, 4).T}.items()
        for start in range(0, series.shape[1] - BLOCK + 1, BLOCK)
    }


@cache
def _dealt() -> dict[str, dict[str, list[str]]]:
    """Per series, its blocks by split."""
    names = [name for name in _blocks() if np.isfinite(_blocks()[name]).all(1).any()]
    return {
        series: scenes.deal([name for name in names if name.startswith(series)], SHARES)
        for series in ("stocks", "goog", "eeg")
    }


def _paint(heights: Sequence[int], rng: np.random.Generator) -> Image.Image:
    paper = rng.integers(205, 250, 3)
    ink = rng.integers(30, 150, 3)
    picture = Image.new("RGB", (WIDTH, HEIGHT), tuple(paper.tolist()))
    pen = ImageDraw.Draw(picture)
    for place, height in enumerate(heights):
        left = 16 * place + 3
        pen.rectangle((left, BASE - STEP * height, left + 9, BASE), fill=tuple(ink.tolist()))
    for level in range(LEVELS + 1):
        strong = level % 4 == 0  # the lines of 0, 4 and 8
        line = (70, 70, 70) if strong else (165, 165, 165)
        pen.line((0, BASE - STEP * level, WIDTH, BASE - STEP * level), fill=line)
    pixels = np.asarray(picture) + rng.normal(0, 3, (HEIGHT, WIDTH, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
