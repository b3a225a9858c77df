"""Scenes: what a question shows and asks, drawn by key, with a counterfactual twin for each.

The real photos come out of wheels that are installed anyway. Their files are opened by path, so
nothing is downloaded and nothing heavy is imported.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

SPLITS = ("warm", "rl", "heldout")
ATTEMPTS = 10_000  # at a twin; the rarest needs some hundred


Paint = Callable[[np.random.Generator], Image.Image]


@dataclass(frozen=True)
class Scene:
    """One question and the truth about it.

    Args:
        reads: the words to be read, in the order of the task's markers.
        answer: in digits.
        difficulty: from 0, the easiest; what it counts is up to the task.
        sources: names of the underlying images, each of which belongs to one split; where there is
            none, the question itself.
        paint: makes the picture, or None where there is none.
        cells: words for what the picture shows, line by line, where `reads` are not that.
    """

    question: str
    reads: Sequence[str]
    answer: str
    difficulty: int
    sources: Sequence[str]
    paint: Paint | None
    cells: Sequence[str] = ()


# Draws a scene of a split; from a question if one is given, else it picks one.
Draw = Callable[[np.random.Generator, str, str | None], Scene]


def make_rows(
    task: str, draw: Draw, n: int, seed: int, split: str, instruction: str, **settings: int | str
) -> list[dict]:
    """`n` rows in the columns TRL takes, plus the truth about each (see `sightline.tasks`)."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {sorted(SPLITS)}, got {split!r}")
    return [
        _row(f"{task}-{split}-{seed}-{index:05d}", draw, instruction, settings)
        for index in range(n)
    ]


def make_twin(draw: Draw, row: dict, same_reads: bool = False) -> dict:
    """The row of the same text on another picture; the twin of a twin is the row again.

    Args:
        same_reads: what is read and the answer stay (they are in the text); only the picture
            changes. Else every word read and the answer differ.
    """
    if row["id"].endswith("-twin"):
        return {**row, **_shown(row["twin_id"], draw, None)}
    rng = _generator(row["twin_id"])
    for _ in range(ATTEMPTS):
        scene = draw(rng, _split(row["id"]), row["question"])
        differs = scene.answer != row["answer"] and all(
            a != b for a, b in zip(scene.reads, row["reads"], strict=True)
        )
        if differs or same_reads:
            return {**row, **_columns(row["twin_id"], row["id"], scene, rng)}
    raise RuntimeError(f"no twin of {row['id']} in {ATTEMPTS} scenes; report it with the seed")


def pictures(scene: Scene, rng: np.random.Generator) -> list[Image.Image]:
    """The one picture of `scene`, or none."""
    return [scene.paint(rng)] if scene.paint else []


def deal(names: Sequence[str], shares: Mapping[str, float]) -> dict[str, list[str]]:
    """`names` shuffled once and for all and dealt to the splits in proportion to `shares`."""
    order = np.random.default_rng(0).permutation(len(names))
    ends = np.round(np.cumsum([shares[split] for split in SPLITS]) * len(names)).astype(int)
    starts = (0, *ends[:-1])
    return {
        split: [str(names[i]) for i in order[start:end]]
        for split, start, end in zip(SPLITS, starts, ends, strict=True)
    }


def wheel_file(package: str, path: str) -> Path:
    """Where a data file lies inside an installed package."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ImportError(f"this task needs {package}: pip install 'sightline[tasks]'")
    file = Path(spec.origin).parent / path
    if not file.is_file():
        raise FileNotFoundError(
            f"{package} is installed without {path}; the version in constraints.txt has it"
        )
    return file


@cache
def photo(name: str) -> Image.Image:
    """A photo that scikit-learn or scikit-image ships, such as `china.jpg`, in its own mode."""
    sklearn = name in ("china.jpg", "flower.jpg")
    package, folder = ("sklearn", "datasets/images") if sklearn else ("skimage", "data")
    with Image.open(wheel_file(package, f"{folder}/{name}")) as picture:
        picture.load()
        return picture.copy()


def _row(id: str, draw: Draw, instruction: str, settings: Mapping[str, int | str]) -> dict:
    shown = _shown(id, draw, None)
    text = "\n\n".join(filter(None, [shown["question"], instruction]))
    return {**shown, "prompt": [{"role": "user", "content": text}], **settings}


def _shown(id: str, draw: Draw, question: str | None) -> dict:
    # A generator per row, keyed by what names it: a row does not depend on how many are drawn.
    rng = _generator(id)
    return _columns(id, f"{id}-twin", draw(rng, _split(id), question), rng)


def _columns(id: str, twin_id: str, scene: Scene, rng: np.random.Generator) -> dict:
    return {
        "id": id,
        "twin_id": twin_id,
        "question": scene.question,
        "images": pictures(scene, rng),
        "answer": scene.answer,
        "reads": list(scene.reads),
        "difficulty": scene.difficulty,
        "sources": list(scene.sources),
        **({"cells": list(scene.cells)} if scene.cells else {}),
    }


def _split(id: str) -> str:
    return id.removesuffix("-twin").rsplit("-", 3)[1]


def _generator(id: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(id.encode()).digest()[:16], "big"))
