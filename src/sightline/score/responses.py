"""Responses of any framework, from a file, as they are scored: nothing is guessed in silence."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..data import BadRow, Limits, decode
from ..data.images import MAX_PIXELS, content, name_of
from ..data.sources import Source, open_source
from ..data.survey import column_names
from ..prompts import NONE, Prompt
from .answered import Answered
from .chats import is_answered, places_pictures, take_apart
from .columns import COLUMNS, candidates, column_of, images_of
from .fields import answered_row

SHOWN = 20  # bad rows in a message
NOT_KEPT = (
    "its picture was not kept: sightline eval keeps those of the first questions only, unless it "
    "is asked with --keep-images"
)


class Responses(NamedTuple):
    """What a file held.

    Args:
        taken: which column was taken for what.
        bad: the rows that cannot be used.
        limits: of the images.
    """

    source: str
    rows: list[Answered]
    taken: dict[str, str]
    bad: list[BadRow]
    limits: Limits

    def description(self) -> str:
        """One line: what was loaded, and what was taken for what."""
        several = sum(len(row.cells) > 1 for row in self.rows)
        without = sum(not row.cells for row in self.rows)
        taken = ", ".join(f"{role} ← {name}" for role, name in self.taken.items())
        taken += "" if "id" in self.taken else ", id ← its place in the file"
        return (
            f"responses: {self.source}: {len(self.rows):,} rows used, {len(self.bad):,} listed as "
            f"bad; {without:,} without an image, {several:,} with several; {taken}"
        )

    def fingerprint(self) -> str:
        """A hash of all that is scored; paths do not count, the bytes of images do."""
        digest = hashlib.blake2b(digest_size=16)
        for row in self.rows:
            digest.update(repr(replace(row, cells=[])).encode("utf-8", "backslashreplace"))
        return digest.hexdigest()


def read_responses(
    source: Any,
    *,
    images: Path | None = None,
    columns: Mapping[str, str] | None = None,
    prompt: Prompt = NONE,
    answered: bool = True,
    max_pixels: int = MAX_PIXELS,
    allow_outside_root: bool = False,
) -> Responses:
    """Read questions and responses from a file of any kind that `load_rows` knows, or a list.

    Args:
        images: the folder that image paths are relative to; by default that of the file.
        columns: the file's own name for some of `COLUMNS`.
        prompt: the format put around each question; none where it is already in place.
        answered: whether each row must have a response; otherwise none is read.
        max_pixels, allow_outside_root: see `Limits`.
    """
    found = open_source(source)
    if not len(found.rows):
        raise ValueError(f"{found.name} is empty: it holds no responses")
    names = column_names(found)
    known = candidates(names, columns)
    if not answered:
        known = {part: n for part, n in known.items() if part not in ("response", "response_ids")}
    _check_columns(known, names, found, answered)
    limits = Limits(images or found.root, max_pixels, allow_outside_root)
    used: dict[str, dict[str, None]] = {part: {} for part in COLUMNS}  # in order of first use
    decoded: set[str] = set()  # digests of pictures: rows share them
    rows, places, bad = [], [], []
    for place, raw in zip(found.places, found.rows, strict=True):
        reading = _Reading(place, decoded)
        try:
            if isinstance(raw, ValueError):
                raise raw
            rows.append(reading.row(raw, known, limits, prompt, answered, used))
            places.append(place)
        except ValueError as error:
            name = reading.id or row_name(place)
            bad.append(BadRow(name, place, reading.image, str(error)))
    taken = {part: " / ".join(names) for part, names in used.items() if names}
    return Responses(found.name, _named(rows, places), taken, bad, limits)


def complaint(found: Responses) -> str:
    """What to say of the bad rows, the first of them by name."""
    total = len(found.rows) + len(found.bad)
    lines = [f"{len(found.bad)} of {total} rows of {found.source} cannot be scored:"]
    lines += [f"  {row}" for row in found.bad[:SHOWN]]
    if len(found.bad) > SHOWN:
        lines.append(f"  … and {len(found.bad) - SHOWN} more")
    return "\n".join([*lines, "mend them, or leave them out with --bad-rows skip-and-list"])


def row_name(place: str) -> str:
    """What a row without an id is called: ``line 12`` of a file of lines, else ``row 12``."""
    file, _, number = place.rpartition(":")
    if not file:
        return place  # of a list
    return f"{'line' if file.endswith(('.jsonl', '.csv')) else 'row'} {number}"


class _Reading:
    """A row that is being read: how far it came is what a complaint says of it.

    Args:
        place: where it stands.
        decoded: digests of the pictures that are known to decode; more are added.
    """

    def __init__(self, place: str, decoded: set[str]):
        self.place, self.id, self.image = place, "", ""
        self.decoded = decoded

    def row(
        self,
        raw: Mapping[str, Any],
        known: Mapping[str, Sequence[str]],
        limits: Limits,
        prompt: Prompt,
        answered: bool,
        used: dict[str, dict[str, None]],
    ) -> Answered:
        """The row with its images hashed; the columns it is read from are added to `used`.

        Each picture is decoded once: a damaged one would end the run hours later.
        """
        chosen = {part: column_of(raw, columns) for part, columns in known.items()}
        row = {part: raw[name] for part, name in chosen.items() if name is not None}
        self.id = str(row.get("id", ""))
        chosen["images"], cells = images_of(raw, known.get("images", ()))
        if "prompt" in row:
            cells = self._take_apart(row, chosen, cells, answered)
            # a sample of an evaluation, which says under which condition it was asked
            if "condition" in raw and not cells and places_pictures(row["prompt"]):
                raise ValueError(NOT_KEPT)
        digests = []
        for cell in cells:
            self.image = name_of(cell)
            digest = hashlib.blake2b(content(cell, limits), digest_size=16).hexdigest()
            if digest not in self.decoded:
                decode(cell, limits)
                self.decoded.add(digest)
            digests.append(digest)
        self.image = ""
        made = answered_row(row, cells, tuple(digests), prompt, answered)
        for part, name in chosen.items():
            if name is not None:
                used[part][name] = None
        return made

    def _take_apart(
        self,
        row: dict[str, Any],
        chosen: dict[str, str | None],
        cells: list[Any],
        answered: bool,
    ) -> list[Any]:
        """Put prompt and response of a conversation into `row`; all images of the row."""
        column = chosen["prompt"]
        chat = take_apart(row["prompt"], column or "")
        row["prompt"] = chat.prompt
        if chat.cells and cells:
            raise ValueError("its messages hold pictures, and its column of images does too")
        if chat.response is not None and answered:
            if row.get("response", chat.response) != chat.response or "response_ids" in row:
                raise ValueError(
                    f"its {column} ends with a message of the assistant, and it has another "
                    "response beside it"
                )
            row["response"] = chat.response
            chosen["response"] = chosen.get("response") or column
        if chat.cells:
            chosen["images"] = column
        return chat.cells or cells


def _check_columns(
    known: Mapping[str, Sequence[str]], names: Sequence[str], found: Source, answered: bool
) -> None:
    there = f"there are {', '.join(sorted(names))}; name it with --columns"
    if "prompt" not in known:
        raise ValueError(
            f"no column holds the prompt: looked for {', '.join(COLUMNS['prompt'])}; {there} "
            "prompt=NAME"
        )
    if not answered or "response" in known or "response_ids" in known:
        return
    rows = (row for row in found.rows if isinstance(row, Mapping))
    if not any(is_answered(row.get(name)) for row in rows for name in known["prompt"]):
        raise ValueError(
            f"no column holds the response: looked for {', '.join(COLUMNS['response'])}; {there} "
            "response=NAME; to sample responses, say --generate N"
        )


def _named(rows: Sequence[Answered], places: Sequence[str]) -> list[Answered]:
    """The rows with names of their own, numbered among the responses to their prompt.

    A row without an id is called by its place in the file.
    """
    owners, seen = Counter(row.id for row in rows), Counter[str]()
    several = len({place.rpartition(":")[0] for place in places}) > 1
    named = []
    for row, place in zip(rows, places, strict=True):
        if not row.id:
            name = f"{place.rpartition(':')[0]} {row_name(place)}" if several else row_name(place)
        elif owners[row.id] > 1:
            name = f"{row.prompt_id}-{seen[row.prompt_id]}"
        else:
            name = row.id
        named.append(replace(row, id=name, sample=seen[row.prompt_id]))
        seen[row.prompt_id] += 1
    twice = [name for name, count in Counter(row.id for row in named).items() if count > 1]
    if twice:
        raise ValueError(f"several responses would have the id {twice[0]!r}: give each its own")
    return named
