"""`sightline check`: takes the flags of `sightline train`, to check the very run they start."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from ..records import default_folder
from . import environment
from .findings import PROBLEM, Finding, worst
from .page import SHOWN, as_json, lines_of, page

FILE = "check.jsonl"


def check(argv: Sequence[str]) -> int:
    """Check the run that `sightline train` would make of the same flags and YAML.

    Returns:
        The exit code: 1 if there is a problem, else 0.

    Raises:
        ValueError, OSError: `sightline train` would refuse the flags, or cannot read the data.
    """
    begun = perf_counter()
    own, flags = _parser().parse_known_args(argv)
    if "-h" in flags or "--help" in flags:
        print(_parser().format_help())
    lacking = environment.packages(["trl"])
    if worst(lacking) == PROBLEM:  # without these nothing else can be looked at
        title, findings = "the environment alone", [environment.versions(), *lacking]
    else:
        from .whole import look  # what this imports is there

        title, findings = look(flags, own.eval_data)
    seconds = perf_counter() - begun
    file = _write(findings, own.output, own.json)
    if own.json:
        print(as_json(title, findings, seconds))
    else:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        print(page(f"sightline check: {title}", findings, seconds, colour, file))
    return int(worst(findings) == PROBLEM)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sightline check",
        description="Find what would go wrong in a run before it starts. Takes the flags of "
        "sightline train, and:",
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument(
        "--eval-data", "--eval_data", help="path or Hub id[@split] that must share no image"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--output",
        type=Path,
        help=f"folder for {FILE}, a line for each row in question; by default a free one in runs/, "
        f"if there are more than the {SHOWN} that the page shows",
    )
    return parser


def _write(findings: list[Finding], folder: Path | None, as_json: bool) -> str:
    """Write the findings on rows where they are asked for or do not fit; return the path."""
    many = sum(bool(finding.row) for finding in findings) > SHOWN
    if folder is None and (as_json or not many):
        return ""
    folder = folder or default_folder("check")
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{FILE}.tmp"
    draft.write_text(lines_of(findings), encoding="utf-8")
    os.replace(draft, folder / FILE)
    return str(folder / FILE)
