"""Every row looked at once: what it becomes, or why it cannot be used."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..prompts import Prompt
from .dialects import Columns, Converted, convert, row_id
from .images import Limits, cells_of, check, decode, name_of, stored
from .sources import Source


@dataclass(frozen=True)
class BadRow:
    """A row that is not used.

    Args:
        id: its own, or its place where it has none.
        place: where it stands, such as ``train.jsonl:17``.
        image: the path of the image at fault, or "".
        reason: what is wrong, in a sentence that is the same on every process.
    """

    id: str
    place: str
    image: str
    reason: str

    def __str__(self):
        image = f", image {self.image!r}" if self.image else ""
        return f"row {self.id!r} ({self.place}){image}: {self.reason}"


@dataclass
class Survey:
    """What looking at every row once has brought.

    Args:
        kept: the number of each row that is used.
        rows: what `convert` made of it.
        cells: its images as they are to be stored, where the data does not store them already.
        images: how many it has.
    """

    kept: list[int] = field(default_factory=list)
    rows: list[Converted] = field(default_factory=list)
    cells: list[list[dict]] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)


def column_names(found: Source) -> list[str]:
    """The columns that any of the rows has."""
    if not isinstance(found.rows, list):
        return found.rows.column_names
    rows = [row for row in found.rows if isinstance(row, Mapping)]
    if not rows:
        raise ValueError(f"{found.name} holds no row at all; {found.places[0]}: {found.rows[0]}")
    return list(dict.fromkeys(name for row in rows for name in row))


def look(
    found: Source,
    columns: Columns,
    names: Sequence[str],
    prompt: Prompt,
    limits: Limits,
    everything: bool,
) -> Survey:
    """Go over the rows, decoding `everything` or only asking whether an image can be there."""
    survey, ids, stores = Survey(), Counter(), isinstance(found.rows, list)
    for number, row in enumerate(found.rows):
        place, own, image = found.places[number], None, ""
        try:
            if isinstance(row, ValueError):
                raise row
            row = {**dict.fromkeys(names), **row}
            own = row_id(row, columns)
            cells = cells_of(row[columns.images]) if columns.images else []
            if wrong := wrong_image(cells, limits, everything):
                image, reason = wrong
                raise ValueError(reason)
            if stores:
                cells = [stored(cell, limits) for cell in cells]
                paths = {columns.images: [cell["path"] for cell in cells]} if columns.images else {}
                _check_text({**row, **paths})
                row = {**row, columns.images: cells} if columns.images else row
            made = convert(row, columns, prompt)
            if own is not None and ids[own]:
                raise ValueError("another row has this id")
        except (ValueError, RecursionError) as error:
            name = str(place if own is None else own)
            survey.bad.append(BadRow(name, place, image, str(error)))
            continue
        ids[made.id] += 1
        if ids[made.id] > 1:  # rows without an id that are alike
            made = made._replace(id=f"{made.id}-{ids[made.id]}")
        survey.kept.append(number)
        survey.rows.append(made)
        survey.cells.append(cells if stores else [])
        survey.images.append(len(cells))
    return survey


def _check_text(row: Mapping[str, Any]) -> None:
    """Raise ValueError for halves of surrogate pairs, which Arrow does not take."""
    for column, value in row.items():
        text = json.dumps([column, value], ensure_ascii=False, default=repr)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = text[error.start]
            raise ValueError(
                f"its column {column!r} holds {half!r}, half of a surrogate pair, which is no "
                "character: its text was cut inside one, or decoded wrongly; write it again as "
                "UTF-8, in Python with text.encode('utf-16', 'surrogatepass').decode('utf-16', "
                "'replace')"
            ) from error


def wrong_image(cells: list[Any], limits: Limits, everything: bool) -> tuple[str, str] | None:
    """Path and reason of the first image that is wrong, if one is."""
    for cell in cells:
        try:
            if everything:
                decode(cell, limits)
            else:
                check(cell, limits)
        except ValueError as error:
            return name_of(cell), str(error)
    return None
