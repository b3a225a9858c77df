"""Count, attribute and relation: how many shapes have the colour of the cross's neighbour?

Shapes are drawn in a grid of 3 by 3 on a ground cut from a real photo; each photo's texture
belongs to one split. One word of the thinking names a colour, three say how often it stands in
each column, one concludes: 5 of 48.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from . import responses, scenes
from .digits import NUMBERS

SIDE, CELL, LINES = 48, 16, 3
GROUND = "the"  # what a cell without a shape is called in alignment: a word that says nothing
PHOTOS = {
    "warm": ("china.jpg", "coffee.png", "gravel.png", "moon.png"),
    "rl": ("flower.jpg", "chelsea.png", "brick.png", "rocket.jpg", "astronaut.png"),
    "heldout": ("grass.png", "camera.png", "ihc.png", "hubble_deep_field.jpg"),
}
COLOURS = {
    "red": (235, 50, 50),
    "green": (40, 200, 70),
    "blue": (70, 110, 255),
    "yellow": (250, 220, 50),
}
KINDS = ("circle", "square", "triangle")
NEIGHBOURS = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}
QUESTIONS = {
    f"find the shape {relation} the cross . how many shapes have its colour ?": step
    for relation, step in NEIGHBOURS.items()
}
COLUMNS = ("left", "middle", "right")
VOCABULARY: dict[str, list[str]] = {
    "neighbour": list(COLOURS),
    **dict.fromkeys(COLUMNS, NUMBERS[:4]),
}
LOOK_ALIKES = {"yellow": "green", "two": "one", "three": "two"}  # a shape is overlooked
# What a column shows hangs on the colour that was read before: learned later than a digit.
WARM_START = {"transcription_steps": 600, "prose_steps": 300}


def rows(
    n: int,
    seed: int = 0,
    split: str = "rl",
    instruction: str = "",
    *,
    length: int = 48,
    filler: str = "free",
) -> list[dict]:
    """`n` questions with answers from 1 to 4; `difficulty` counts the shapes beside the cross."""
    return scenes.make_rows(
        "shapes", _draw, n, seed, split, instruction, length=length, filler=filler
    )


def twin(row: dict) -> dict:
    """The same text; another colour, other counts in each column, another total."""
    return scenes.make_twin(_draw, row)


def solve(question: str, reads: Sequence[str]) -> str:
    """The columns' counts added up, in digits."""
    return str(sum(NUMBERS.index(word) for word in reads[1:]))


_grammar = responses.Grammar(VOCABULARY, LOOK_ALIKES, solve, leading=1)
demonstration, transcription = _grammar.demonstration, _grammar.transcription
spans, misread = _grammar.spans, _grammar.misread
readings, reading_accuracy = _grammar.readings, _grammar.reading_accuracy


def guess_rate() -> float:
    """Of any constant: the four answers are equally likely."""
    return 0.25


def in_view(row: dict) -> list[str]:
    """The words for what the picture shows, line by line."""
    return row["cells"]


def corpus() -> Iterator[str]:
    """Every word of a prompt or a response."""
    return responses.corpus(QUESTIONS, VOCABULARY)


def fingerprint(*, length: int = 48, filler: str = "free") -> str:
    """SHA-256 of the photos in the order of the splits, and of the settings."""
    digest = hashlib.sha256(f"{length} {filler}".encode())
    for name in (name for part in PHOTOS.values() for name in part):
        digest.update(scenes.photo(name).tobytes())
    return digest.hexdigest()


def _draw(rng: np.random.Generator, split: str, question: str | None) -> scenes.Scene:
    question = question or str(rng.choice(list(QUESTIONS)))
    down, across = QUESTIONS[question]
    total = int(rng.integers(1, 5))
    row = int(rng.integers(max(0, -down), 3 - max(0, down)))
    column = int(rng.integers(max(0, -across), 3 - max(0, across)))
    cross, neighbour = 3 * row + column, 3 * (row + down) + column + across
    free = rng.permutation([cell for cell in range(9) if cell not in (cross, neighbour)]).tolist()
    colour, *others = rng.permutation(list(COLOURS)).tolist()
    same = [neighbour, *free[: total - 1]]
    rest = free[total - 1 : total + 1 + int(rng.integers(0, 7 - total))]
    colours = {cell: colour for cell in same} | {cell: str(rng.choice(others)) for cell in rest}
    counts = [sum(cell % 3 == place for cell in same) for place in range(3)]
    ground = str(rng.choice(PHOTOS[split]))
    return scenes.Scene(
        question=question,
        reads=[colour, *(NUMBERS[count] for count in counts)],
        answer=str(total),
        difficulty=len(colours),
        sources=[ground],
        paint=lambda rng: _paint(cross, colours, ground, rng),
        cells=[colours.get(cell, "cross" if cell == cross else GROUND) for cell in range(9)],
    )


def _paint(
    cross: int, colours: dict[int, str], ground: str, rng: np.random.Generator
) -> Image.Image:
    picture = _texture(ground, rng)
    pen = ImageDraw.Draw(picture)
    for cell in sorted([cross, *colours]):
        radius = int(rng.integers(5, 7))
        y, x = (CELL * place + 8 + int(rng.integers(-1, 2)) for place in divmod(cell, 3))
        box = (x - radius, y - radius, x + radius, y + radius)
        if cell == cross:
            pen.line((x - 5, y - 5, x + 5, y + 5), fill="white", width=3)
            pen.line((x - 5, y + 5, x + 5, y - 5), fill="white", width=3)
            continue
        fill, kind = COLOURS[colours[cell]], rng.choice(KINDS)
        if kind == "circle":
            pen.ellipse(box, fill=fill, outline="black")
        elif kind == "square":
            pen.rectangle(box, fill=fill, outline="black")
        else:
            corners = [(x, box[1]), (box[2], box[3]), (box[0], box[3])]
            pen.polygon(corners, fill=fill, outline="black")
    return picture


def _texture(name: str, rng: np.random.Generator) -> Image.Image:
    photo = _dimmed(name)
    size = int(rng.integers(SIDE, min(photo.size) // 2 + 1))
    left, top = (int(rng.integers(0, edge - size + 1)) for edge in photo.size)
    return photo.crop((left, top, left + size, top + size)).resize((SIDE, SIDE))


@cache
def _dimmed(name: str) -> Image.Image:
    """The photo at half its size, so grey and dim that the colour of any shape stands out."""
    photo = scenes.photo(name).convert("RGB")
    photo = photo.resize((photo.width // 2, photo.height // 2))
    grey = Image.blend(photo.convert("L").convert("RGB"), photo, 0.4)
    return grey.point([level * 2 // 5 + 20 for level in range(256)] * 3)
