"""Per-patch attribution over the picture, from ``attribution.jsonl``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..records import Response, as_list, as_object, as_text, number
from ..runs import Run
from ..tables import Table
from ..thumbnails import Thumbnail, thumbnail

RESPONSES, TOKENS = 12, 6  # shown: pictures are heavy
CELLS = 4096  # of one grid; more is no map one can read
LEVELS = 8  # of colour


@dataclass(frozen=True)
class Cell:
    """A patch above the noise floor; places and sizes are in per mille of the picture."""

    x: float
    y: float
    width: float
    height: float
    nats: float
    level: int  # 1 to LEVELS, negative where the token became likelier without the patch


def attribution(run: Run) -> dict[str, Any]:
    """For each attributed response its tokens of the largest change, as cells on the picture."""
    by_id: dict[str, list[Response]] = {}
    for response in run.responses:
        by_id.setdefault(response.id, []).append(response)
    shown, rows, problems = [], [], []
    for record in run.attribution:
        id = as_text(record.get("id"))
        read = read_attribution(record)
        if isinstance(read, str):
            problems.append(f"{id or 'no id'}: {read}")
            continue
        response = next((r for r in by_id.get(id, ()) if lines_up(r, read)), None)
        if response is None:
            problems.append(f"{id or 'no id'}: tokens.jsonl has no response of these tokens")
        else:
            for token in read["tokens"]:
                rows += [
                    (id, read["image"], token["index"], token["text"], r, c, value, read["floor"])
                    for r, line in enumerate(token["change"])
                    for c, value in enumerate(line)
                ]
            if len(shown) < RESPONSES:
                shown.append(overlay(run, response, read))
    header = ["id", "image", "index", "token", "row", "column", "nats", "noise_floor"]
    return {
        "shown": shown,
        "count": len(run.attribution) - len(problems),
        "problems": problems,
        "tables": [Table("attribution", header, rows)] if rows else [],
    } if run.attribution else {}  # fmt: skip


def read_attribution(record: Mapping[str, Any]) -> dict[str, Any] | str:
    """A record whose grids have the shape that it states, or what is wrong with it."""
    grid = [number(side) for side in as_list(record.get("grid"))]
    if len(grid) != 2 or not all(side and side >= 1 and side == int(side) for side in grid):
        return "grid must be [rows, columns]"
    height, width = (int(side or 0) for side in grid)
    if height * width > CELLS:
        return f"its grid has more than {CELLS} cells"
    tokens = []
    for token in map(as_object, as_list(record.get("tokens"))):
        change = [[number(cell) for cell in as_list(line)] for line in as_list(token.get("change"))]
        if len(change) != height or any(len(line) != width for line in change):
            return f"the change of a token is not {height} x {width}"
        text, index = as_text(token.get("text")), number(token.get("index"))
        equal = len(as_list(token.get("strongest")))
        tokens.append({"index": index, "text": text, "change": change, "equal": equal})
    if not tokens:
        return "no tokens"
    return {
        "image": int(number(record.get("image")) or 0),
        "grid": (height, width),
        "fill": as_text(record.get("fill")),
        "floor": number(record.get("noise_floor")),
        "passes": number(record.get("passes")),
        "tokens": tokens,
    }


def lines_up(response: Response, read: Mapping[str, Any]) -> bool:
    """Whether a response has these tokens at these places; a group shares one id."""
    return all(
        token["index"] is not None
        and 0 <= token["index"] < len(response.tokens)
        and response.tokens[int(token["index"])] == token["text"]
        for token in read["tokens"]
    )


def overlay(run: Run, response: Response, read: Mapping[str, Any]) -> dict[str, Any]:
    place = read["image"]
    inside = 0 <= place < len(response.images)
    picture = (
        thumbnail(run.folder, response.images[place])
        if inside
        else Thumbnail(f"image {place}", problem="the response names no such image")
    )
    ranked = sorted(read["tokens"], key=lambda token: -peak(token["change"]))[:TOKENS]
    largest = max(map(peak, (token["change"] for token in ranked)))
    floor = read["floor"] or 0.0
    chosen = sorted(ranked, key=lambda token: token["index"] or 0)
    return {
        **read,
        "response": response,
        "picture": picture,
        "largest": largest,
        "legend": [largest * level / LEVELS for level in (1, LEVELS // 2, LEVELS)],
        "left_out": len(read["tokens"]) - len(chosen),
        "tokens": [
            {
                "text": token["text"],
                "index": token["index"],
                "peak": peak(token["change"]),
                "equal": token["equal"],
                "cells": cells(token["change"], read["grid"], floor, largest),
            }
            for token in chosen
        ],
    }


def peak(change: list[list[float | None]]) -> float:
    return max(abs(value or 0.0) for line in change for value in line)


def cells(
    change: list[list[float | None]], grid: tuple[int, int], floor: float, largest: float
) -> list[Cell]:
    """The cells above the noise floor; the others stay clear."""
    height, width = 1000 / grid[0], 1000 / grid[1]
    return [
        Cell(
            round(column * width, 2),
            round(row * height, 2),
            round(width, 2),
            round(height, 2),
            value,
            # `change` is log p(token | patch hidden) - log p(token | image)
            int(math.copysign(max(1, math.ceil(LEVELS * abs(value) / largest)), -value)),
        )
        for row, line in enumerate(change)
        for column, value in enumerate(line)
        if value is not None and abs(value) > floor
    ]
