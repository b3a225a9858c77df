"""What a check has found: one thing, with the row and the numbers it is about."""

from collections.abc import Mapping
from dataclasses import dataclass, field

PROBLEM = "problem"  # the run would stop, or train on what is wrong
WARNING = "warning"  # worth a look, or not checked
OK = "ok"
SEVERITIES = (PROBLEM, WARNING, OK)


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Args:
        severity: one of `SEVERITIES`.
        kind: what machines know it by, such as ``rows.unreadable``: the part of the check, a dot,
            and the thing; it stays the same from version to version.
        what: is wrong, or right, in a sentence.
        do: what to do about it, or "".
        row: the row's id, or "" if it is about no single row.
        image: its path, or its number in the row from 1 on; "" if it is about no single image.
        numbers: that the sentence rests on.
    """

    severity: str
    kind: str
    what: str
    do: str = ""
    row: str = ""
    image: str = ""
    numbers: Mapping[str, int | float] = field(default_factory=dict)

    def __post_init__(self):
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity must be one of {SEVERITIES}, got {self.severity!r}")
        if self.severity == PROBLEM and not self.do:
            raise ValueError(f"a problem needs something to do, got none for {self.kind}")

    def __str__(self):
        image = f", image {self.image}" if self.image else ""
        return (f"row {self.row!r}{image}: " if self.row else "") + self.what


def worst(findings: list[Finding]) -> str:
    """The severest of their severities."""
    return min((f.severity for f in findings), key=SEVERITIES.index, default=OK)


def with_summary(
    kind: str, rows: list[Finding], fine: str, wrong: str, numbers: Mapping[str, int | float]
) -> list[Finding]:
    """One finding on all rows ahead of those on single ones.

    Args:
        rows: what was found on single rows, of this kind.
        fine, wrong: what to say where there is nothing, and where there is something.
    """
    do = rows[0].do if rows else ""
    summary = Finding(worst(rows), kind, wrong if rows else fine, do, numbers=numbers)
    return [summary, *rows]
