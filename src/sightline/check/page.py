"""Findings as a page for people, or as JSON for machines."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from textwrap import wrap
from typing import Any

from .findings import OK, PROBLEM, WARNING, Finding, worst

SHOWN = 20  # findings on rows
WIDTH = 89  # of their text; with what stands before it, 100
COLOURS = {PROBLEM: "31;1", WARNING: "33", OK: "32"}
VERSION = 1  # of the JSON; goes up when a key changes its meaning or goes


def page(title: str, findings: list[Finding], seconds: float, colour: bool, file: str) -> str:
    """One page of text.

    Args:
        file: where all findings on rows are, or "" for nowhere.
    """
    lines, part = [_safe(title)], ""
    for finding in (f for f in findings if not f.row):
        begun, thing = finding.kind.split(".")
        if begun != part:
            part = begun
            lines += ["", part]
        lines += _lines(finding.severity, f"{thing}: {finding.what}", colour)
        if finding.do and finding.severity != OK:
            lines.append(f"           → {finding.do}")
    on_rows = [f for f in findings if f.row]
    on_rows.sort(key=lambda f: f.severity != PROBLEM)
    if on_rows:
        lines += ["", "rows in question" + _first(len(on_rows))]
        for finding in on_rows[:SHOWN]:
            lines += _lines(finding.severity, str(finding), colour)
    numbers = counts(findings)
    said = f"{_many(numbers['problems'], 'problem')}, {_many(numbers['warnings'], 'warning')}"
    lines += ["", f"{_tinted(worst(findings), colour)}  {said}, in {seconds:.0f} s"]
    if file:
        lines.append(f"all rows in question: {file}")
    return "\n".join(lines)


def as_json(title: str, findings: list[Finding], seconds: float) -> str:
    """The same for machines, with every finding; NaN and infinity become null."""
    content: dict[str, Any] = {
        "version": VERSION,
        "checked": title,
        **counts(findings),
        "seconds": round(seconds, 1),
        "findings": [record(finding) for finding in findings],
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def counts(findings: list[Finding]) -> dict[str, int]:
    """How many kinds of problem and of warning there are, and how many rows have a problem."""
    problems = {f.kind for f in findings if f.severity == PROBLEM}
    warnings = {f.kind for f in findings if f.severity == WARNING} - problems
    rows = {f.row for f in findings if f.severity == PROBLEM and f.row}
    return {"problems": len(problems), "warnings": len(warnings), "rows_with_problems": len(rows)}


def record(finding: Finding) -> dict[str, Any]:
    """A finding as JSON takes it."""
    numbers = {n: None if value - value != 0 else value for n, value in finding.numbers.items()}
    return {**asdict(finding), "numbers": numbers}


def lines_of(findings: Iterable[Finding]) -> str:
    """The findings on single rows as JSON lines."""
    return "".join(
        json.dumps(record(finding), ensure_ascii=False, allow_nan=False) + "\n"
        for finding in findings
        if finding.row
    )


def _lines(severity: str, text: str, colour: bool) -> list[str]:
    """A severity and a text, in lines that fit the page."""
    first, *others = wrap(_safe(text), WIDTH, break_long_words=False, break_on_hyphens=False)
    return [f"  {_tinted(severity, colour)}  {first}", *(" " * 11 + line for line in others)]


def _tinted(severity: str, colour: bool) -> str:
    text = f"{severity:<7}"
    return f"\x1b[{COLOURS[severity]}m{text}\x1b[0m" if colour else text


def _safe(text: str) -> str:
    """Without what could steer a terminal: ids, paths and golds are other people's text."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _first(count: int) -> str:
    return f", the first {SHOWN} of {count:,}" if count > SHOWN else ""


def _many(count: int, name: str) -> str:
    return f"{count} {name}" + ("" if count == 1 else "s")
