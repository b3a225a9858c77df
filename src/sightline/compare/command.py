"""`sightline compare`: a suite, a result set to draw again, or two runs."""

import argparse
from pathlib import Path

from .collecting import collect, reusable
from .flags import PROCESSES
from .hypotheses import check_seeds, parse_hypotheses
from .page import write_page
from .registration import register
from .results import ResultSet, cell_of, read_results, write_results
from .runner import run_suite
from .runs import compare_runs
from .suite import check_sample, find_suite
from .yaml_text import text_of


def run(args: argparse.Namespace) -> None:
    """Do what the flags ask for."""
    if args.runs:
        print(compare_runs(*args.runs))
    elif args.report:
        results = read_results(args.report)
        # not where its cells were run: what stands there may be a later sitting's
        again = Path("runs") / "compare" / f"{results.suite.name}-again"
        print(write_page(results, args.output_dir or again))
    else:
        run_and_report(args)


def run_and_report(args: argparse.Namespace) -> None:
    """Run the cells of a suite that are left, and write its result set and its report."""
    suite = find_suite(args.suite)
    check_sample(suite)
    folder = args.output_dir or Path("runs") / "compare" / suite.name
    document = args.preregistration
    if document is not None:
        if not document.is_file():
            raise ValueError(f"there is no pre-registration {document}")
        check_seeds(parse_hypotheses(text_of(document), suite), suite)
    earlier, registered = None, None
    if args.go_on_from:
        found = read_results(args.go_on_from)
        earlier = reusable(suite, found)
        registered = found.about["registration"] if earlier.cells else None
        print(_taken(found, earlier))
    begun = register(suite, folder, document, registered)
    known = {cell_of(line) for line in earlier.cells} if earlier else set()
    failed = (
        [] if args.collect else run_suite(suite, folder, args.parallel or PROCESSES, known=known)
    )
    results = collect(suite, folder, begun, earlier)
    write_results(results, folder / "results.jsonl")
    print(f"results: {folder / 'results.jsonl'}\nreport: {write_page(results, folder)}")
    if failed:
        raise ValueError(
            f"{len(failed)} cells failed, the first is {failed[0]}: see failures.jsonl in "
            f"{folder}; the same command tries them again"
        )


def _taken(found: ResultSet, kept: ResultSet) -> str:
    said = f"{len(kept.cells)} finished cells are taken from the result set"
    left = sum("points" in line for line in found.cells) - len(kept.cells)
    return said + (
        f"; {left} others are of seeds with cells still to be run, or not of this suite, and are "
        "not"
        if left
        else ""
    )
