"""The flags of `sightline compare`; nothing heavy is imported before they are understood."""

import argparse
from pathlib import Path
from typing import Any

PROCESSES = 2


def add_compare(commands: Any) -> None:
    """Add the command to the others."""
    parser = commands.add_parser(
        "compare",
        help="run credit rules on tasks whose visual words are known, or compare two runs",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", type=Path, nargs="*", metavar="RUN", help="two finished runs, and nothing else"
    )
    parser.add_argument("--suite", help="quick, full, or a YAML file of your own")
    parser.add_argument(
        "--report", type=Path, metavar="RESULTS", help="draw the report of a result set again"
    )
    parser.add_argument(
        "--parallel", type=int, help=f"cells at a time, a thread each; default: {PROCESSES}"
    )
    parser.add_argument(
        "--preregistration", type=Path, metavar="FILE", help="hypotheses, fixed before the run"
    )
    parser.add_argument(
        "--go-on-from",
        type=Path,
        metavar="RESULTS",
        help="a result set whose finished cells are not run again",
    )
    parser.add_argument(
        "--collect",
        action="store_true",
        help="run nothing: write result set and report of the whole seeds there are",
    )
    parser.add_argument(
        "-o",
        "--output-dir",
        type=Path,
        help="default: runs/compare/SUITE, with -again for --report",
    )
    parser.set_defaults(run=_run, flags=list(parser._option_string_actions))


def _run(args: argparse.Namespace) -> None:
    asked = [bool(args.runs), args.suite is not None, args.report is not None]
    if sum(asked) != 1:
        raise ValueError(
            "sightline compare needs one of: --suite NAME, --report RESULTS, or two run folders"
        )
    if args.suite is None:
        for flag in ("preregistration", "go_on_from", "collect", "parallel"):
            if getattr(args, flag):
                raise ValueError(f"--{flag.replace('_', '-')} goes with --suite")
    if args.runs and len(args.runs) != 2:
        raise ValueError(f"runs are compared two at a time, got {len(args.runs)}")
    if args.runs and args.output_dir:
        raise ValueError("two runs are compared on the terminal: --output-dir has no use for them")
    if args.parallel is not None and args.parallel < 1:
        raise ValueError(f"--parallel must be at least 1, got {args.parallel}")
    from ..report import require_libraries

    require_libraries()
    from .command import run

    run(args)
