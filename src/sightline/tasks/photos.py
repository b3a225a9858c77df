"""Four crops of real photos in a row: how many show a face, a coin, a large coin, and where?

Faces are from Labeled Faces in the Wild, coins, bricks and the printed page are photos too; all
come with scikit-image. A face, a coin or a block of bricks or page belongs to one split. Four
words of the thinking are read from the picture, one concludes: 5 of 48.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from PIL import Image

from . import responses, scenes

TILE = 32  # pixels; the picture is four tiles wide and one high
SHARES = {"warm": 0.3, "rl": 0.45, "heldout": 0.25}
# The 24 coins of coins.png: top, bottom, left, right.
COINS = [
    *[(16, 72, 305, 365), (30, 74, 132, 179), (31, 73, 192, 240), (34, 72, 255, 297)],
    *[(39, 74, 81, 120), (40, 74, 22, 67), (95, 144, 245, 296), (104, 145, 25, 67)],
    *[(105, 145, 186, 227), (105, 145, 317, 356), (107, 145, 84, 122), (110, 145, 134, 174)],
    *[(156, 218, 315, 380), (170, 217, 189, 237), (172, 217, 251, 297), (175, 217, 80, 124)],
    *[(179, 217, 25, 63), (179, 217, 135, 174), (233, 288, 18, 75), (236, 288, 144, 201)],
    *[(239, 288, 276, 327), (240, 288, 219, 269), (245, 287, 92, 136), (248, 289, 335, 381)],
]
# Pixels across, at least and at most, before all are scaled alike: a large coin fills three
# quarters of its crop. Those between are coins, but their size is not asked.
LARGE, SMALL, GROUND = 50, 41, 67
CONTENTS = ["face", "coin", "brick", "page"]
SIZES = ["large", "small", "none"]
PLACE = "in which crop from the left is the only large coin ?"
# What is asked for, and the words that the crops of such a question are described in.
QUESTIONS = {
    "how many of the crops show a face ?": ("face", CONTENTS),
    "how many of the crops show a coin ?": ("coin", CONTENTS),
    "how many of the crops show a large coin ?": ("large", SIZES),
    PLACE: ("large", SIZES),
}
VOCABULARY: dict[str, list[str]] = dict.fromkeys(
    ("first", "second", "third", "fourth"), CONTENTS + SIZES
)
LOOK_ALIKES = {"coin": "face", "page": "brick", "small": "large"}
# With fewer it has not learned to name each of four crops once.
WARM_START = {"prose_steps": 300}


def rows(
    n: int,
    seed: int = 0,
    split: str = "rl",
    instruction: str = "",
    *,
    length: int = 48,
    filler: str = "free",
) -> list[dict]:
    """`n` questions; `difficulty` counts how many kinds of crop there are in the picture."""
    return scenes.make_rows(
        "photos", _draw, n, seed, split, instruction, length=length, filler=filler
    )


def twin(row: dict) -> dict:
    """The same text, every crop of another kind, another answer."""
    return scenes.make_twin(_draw, row)


def solve(question: str, reads: Sequence[str]) -> str:
    """What `question` asks of such crops, in digits; 0 where there is no such place."""
    wanted = QUESTIONS[question][0]
    if question == PLACE:
        return str(list(reads).index(wanted) + 1 if wanted in reads else 0)
    return str(list(reads).count(wanted))


_grammar = responses.Grammar(VOCABULARY, LOOK_ALIKES, solve)
demonstration, transcription = _grammar.demonstration, _grammar.transcription
spans, misread = _grammar.spans, _grammar.misread
readings, reading_accuracy = _grammar.readings, _grammar.reading_accuracy


def guess_rate() -> float:
    """Of any constant: three questions have five answers, one has four, each equally likely."""
    return (3 / 5 + 1 / 4) / 4


def in_view(row: dict) -> list[str]:
    """The words for what the picture shows, from left to right."""
    return row["reads"]


def corpus() -> Iterator[str]:
    """Every word of a prompt or a response."""
    return responses.corpus(QUESTIONS, VOCABULARY)


def fingerprint(*, length: int = 48, filler: str = "free") -> str:
    """SHA-256 of all crops in the order of the splits, and of the settings."""
    digest = hashlib.sha256(f"{length} {filler}".encode())
    for crops in _crops().values():
        for names in crops.values():
            for name, pixels in names.items():
                digest.update(name.encode() + pixels.tobytes())
    return digest.hexdigest()


def _draw(rng: np.random.Generator, split: str, question: str | None) -> scenes.Scene:
    question = question or str(rng.choice(list(QUESTIONS)))
    wanted, words = QUESTIONS[question]
    count = 1 if question == PLACE else int(rng.integers(0, 5))
    others = [word for word in words if word != wanted]
    reads = [wanted] * count + rng.choice(others, 4 - count).tolist()
    reads = rng.permutation(reads).tolist()
    names, tiles = [], []
    for word in reads:
        crops = _crops()[split][word if word != "none" else str(rng.choice(["brick", "page"]))]
        names.append(str(rng.choice(list(crops))))
        tiles.append(crops[names[-1]])
    return scenes.Scene(
        question=question,
        reads=reads,
        answer=solve(question, reads),
        difficulty=len(set(reads)),
        sources=names,
        paint=lambda rng: _paint(tiles, rng),
    )


def _paint(tiles: Sequence[np.ndarray], rng: np.random.Generator) -> Image.Image:
    strips = []
    for tile in tiles:
        light, contrast = rng.uniform(-20, 20), rng.uniform(0.8, 1.1)
        turned = tile[:, ::-1] if rng.random() < 0.5 else tile
        strips.append(128 + contrast * (turned.astype(float) - 128) + light)
    grey = np.hstack(strips) + rng.normal(0, 3, (TILE, 4 * TILE))
    grey[:, TILE : 4 * TILE : TILE] = 0  # a line between the crops
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")


@cache
def _crops() -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Per split and word, its crops by the name of what they show."""
    coins = {size: _coins(size) for size in ("large", "small", "middling")}
    pools = {"face": _faces(), "brick": _blocks("brick.png", 128), "page": _blocks("page.png", 48)}
    crops: dict[str, dict[str, dict[str, np.ndarray]]] = {split: {} for split in scenes.SPLITS}
    # Coins are dealt size by size, so that every split has some of each.
    for word, pool in (pools | coins).items():
        for split, names in scenes.deal(list(pool), SHARES).items():
            crops[split][word] = {name: pool[name] for name in names}
    for part in crops.values():
        part["coin"] = part["large"] | part["small"] | part["middling"]
    return crops


def _faces() -> dict[str, np.ndarray]:
    faces = np.load(scenes.wheel_file("skimage", "data/lfw_subset.npy"))[:100]  # then no faces
    pictures = [Image.fromarray((face * 255).astype(np.uint8)) for face in faces]
    return {f"face-{i}": _tile(picture) for i, picture in enumerate(pictures)}


def _coins(size: str) -> dict[str, np.ndarray]:
    """The coins of this size, all at one scale, on a ground of the grey around each."""
    found = {}
    for i, (top, bottom, left, right) in enumerate(COINS):
        across = max(bottom - top, right - left)
        if size == ("large" if across >= LARGE else "small" if across <= SMALL else "middling"):
            coin = scenes.photo("coins.png").crop((left - 1, top - 1, right + 1, bottom + 1))
            ground = Image.new("L", (GROUND, GROUND), coin.getpixel((0, 0)))
            ground.paste(coin, ((GROUND - coin.width) // 2, (GROUND - coin.height) // 2))
            found[f"coin-{i}"] = _tile(ground)
    return found


def _blocks(name: str, side: int) -> dict[str, np.ndarray]:
    """The photo in squares that do not overlap."""
    picture = scenes.photo(name)
    return {
        f"{name}-{left}-{top}": _tile(picture.crop((left, top, left + side, top + side)))
        for top in range(0, picture.height - side + 1, side)
        for left in range(0, picture.width - side + 1, side)
    }


def _tile(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.resize((TILE, TILE), Image.Resampling.BICUBIC))
