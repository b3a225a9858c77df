"""Tokens as the page draws them: tint, marks, and runs of neighbours that look alike."""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from markupsafe import Markup, escape

from . import formats
from .records import Column

TINT_RANGE = 0.01, 10.0  # nats; fixed, so that the colours of two reports mean the same
LEVELS = 15  # of tint: five for each factor of ten
ABOVE, VISUAL = 1, 2  # marks of a token, as the script reads them


def classes(row: dict[str, Any], dependency: float | None) -> str:
    """The classes of a token in the stylesheet: its level of tint and its marks."""
    level = tint_level(dependency)
    names = [f"t{level}"] if level else []
    names += ["above"] if row["above"] else []
    names += ["visual"] if row["label"] == "visual" else []
    return " ".join(names)


def marks(rows: Sequence[dict[str, Any]]) -> str:
    """One digit per token, or nothing where none is marked."""
    digits = [ABOVE * row["above"] + VISUAL * (row["label"] == "visual") for row in rows]
    return "".join(map(str, digits)) if any(digits) else ""


def shown(text: str) -> str:
    """A token's text as it stands in the page."""
    space, core = split_space(text)
    return space + formats.clean(formats.shorten(core.replace("\n", "↵\n"), 200))


def lengths(texts: Sequence[str]) -> str:
    """How long each shown text is, in the units in which scripts count (those of UTF-16)."""
    return ",".join(str(len(text.encode("utf-16-le")) // 2) for text in texts)


def spans(texts: Sequence[str], names: Sequence[str], titles: Sequence[str]) -> list[Markup]:
    """Each token as an element of its own, with its values as title."""
    return [
        element(text, name, title) for text, name, title in zip(texts, names, titles, strict=True)
    ]


def runs(texts: Sequence[str], names: Sequence[str]) -> Markup:
    """Neighbours of the same classes as one element, and no element for those without any.

    A page of 300,000 tokens opens and scrolls several times faster than with one for each.
    """

    def pieces() -> Iterator[Markup]:
        for name, group in groupby(zip(names, texts, strict=True), key=lambda pair: pair[0]):
            text = "".join(text for _, text in group)
            yield element(text, name) if name else escape(text)

    return Markup("").join(pieces())


def element(text: str, name: str, title: str = "") -> Markup:
    space, core = split_space(text)  # the space is left untinted, so that it reads as prose
    attributes = f' class="{name}"' if name else ""
    attributes += f' title="{escape(formats.clean(title))}"' if title else ""
    return Markup(f"{space}<i{attributes}>{escape(core)}</i>")  # all escaped


def split_space(text: str) -> tuple[str, str]:
    core = text.lstrip(" ") or text
    return text[: len(text) - len(core)], core


def token_title(row: dict[str, Any], columns: Sequence[str]) -> str:
    parts = [formats.visible(formats.shorten(row["text"], 40))]
    parts += [
        f"{formats.shorten(name, 40)} {formats.plain(value)}"
        for name, value in zip(columns, row["values"], strict=True)
    ]
    parts += [f"label {formats.shorten(row['label'], 40)}"] if row["label"] else []
    parts += ["above threshold"] if row["above"] else []
    return " · ".join(parts)


def compact(value: float | None) -> str:
    """A number in few letters: ``.051``; nothing for None, and 0 below what any tint shows."""
    if value is None:
        return ""
    if abs(value) < 5e-5:
        return "0"
    text = f"{value:.3g}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def tint_level(dependency: float | None) -> int:
    """The tint as one of ``LEVELS`` classes of the stylesheet; 0 is no tint."""
    return round(LEVELS * (tint(dependency) or 0.0))


def tint(dependency: float | None) -> float | None:
    """Where a dependency lies on the log colour scale, from 0 (no tint) to 1; None if n/a."""
    if dependency is None:
        return None
    low, high = TINT_RANGE
    return math.log(min(max(dependency, low), high) / low) / math.log(high / low)


def above_threshold(dependency: Column, threshold: float, min_range: float = 1e-6) -> list[bool]:
    """PGPO's gate: ``(s - min s) / (max s - min s) >= threshold``, ``s = log(1 + dependency)``.

    PGPO (arXiv:2604.01840), eqs. 4-6. No token passes in a response whose ``s`` are all equal.
    """
    scores = [None if value is None else math.log1p(max(value, 0.0)) for value in dependency]
    known = [score for score in scores if score is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    if high - low <= min_range:
        return [False] * len(scores)
    return [score is not None and (score - low) / (high - low) >= threshold for score in scores]
