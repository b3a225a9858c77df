"""`sightline compare`: a suite, a result set to draw again, or two runs."""

import argparse
from pathlib import Path

from .page import write_page
from .registration import register, status
from .results import collect, read_results, write_results
from .runner import run_suite
from .runs import compare_runs
from .suite import find_suite


def run(args: argparse.Namespace) -> None:
    """Do what the flags ask for."""
    if args.runs:
        print(compare_runs(*args.runs))
    elif args.report:
        results = read_results(args.report)
        print(write_page(results, args.output_dir or Path("runs") / "compare" / results.suite.name))
    else:
        run_and_report(args)


def run_and_report(args: argparse.Namespace) -> None:
    """Run the cells of a suite that are left, and write its result set and its report."""
    suite = find_suite(args.suite)
    folder = args.output_dir or Path("runs") / "compare" / suite.name
    document = args.preregistration
    if document is not None and not document.is_file():
        raise ValueError(f"there is no pre-registration {document}")
    begun = register(suite, folder, document)
    failed = run_suite(suite, folder, args.parallel)
    results = collect(suite, folder, status(begun, suite))
    write_results(results, folder / "results.jsonl")
    print(f"results: {folder / 'results.jsonl'}\nreport: {write_page(results, folder)}")
    if failed:
        raise ValueError(
            f"{len(failed)} cells failed, the first is {failed[0]}: see failures.jsonl in "
            f"{folder}; the same command tries them again"
        )
