"""The tables behind the panels, as CSV files and in Markdown."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMULA = tuple("=+-@\t\r")  # what a spreadsheet takes for the start of a formula


@dataclass(frozen=True)
class Table:
    """Rows of text and numbers under a file name without its ending."""

    name: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]


def in_markdown(table: Table) -> str:
    """Its lines; a bar in a cell stays text."""

    def line(cells: Sequence[Any]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    rule = "|---" * len(table.header) + "|"
    return "\n".join([line(table.header), rule, *map(line, table.rows)])


def write_tables(tables: Iterable[Table], folder: Path) -> None:
    """One CSV per table, in UTF-8; None is an empty cell, numbers are whole.

    Text that a spreadsheet would run as a formula gets an apostrophe before it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        with (folder / f"{table.name}.csv").open(
            "w", encoding="utf-8", errors="replace", newline=""
        ) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(inert(cell) for cell in table.header)
            writer.writerows([inert(cell) for cell in row] for row in table.rows)


def inert(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    text = cell.replace("\0", "\N{SYMBOL FOR NULL}")
    return f"'{text}" if text.startswith(FORMULA) else text
