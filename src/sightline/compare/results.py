"""The result set of a suite: one file of JSON lines, from which every number and figure is made."""

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..records import read_lines
from .cell import Cell
from .suite import Suite, parse_suite

ABOUT = ("name", "command", "machine", "versions", "registration", "suite")


@dataclass(frozen=True)
class ResultSet:
    """What a suite gave.

    Args:
        about: command, machine, versions, pre-registration and the text of the suite.
        cells: per cell its `task`, `rule`, `learning_rate`, `seed` and either what `run_cell`
            measured (`points`, `training`, `start_sha256`, `data_sha256`) or `failure`, the reason
            why there is nothing.
    """

    about: dict[str, Any]
    cells: list[dict[str, Any]]

    @cached_property
    def suite(self) -> Suite:
        """The suite that was run."""
        return parse_suite(self.about["name"], self.about["suite"])

    def curves(self, task: str, rule: str, rate: float) -> dict[int, list[dict[str, Any]]]:
        """Per seed the points of its curve; cells that failed are left out."""
        return {
            cell["seed"]: cell["points"]
            for cell in self.cells
            if (cell["task"], cell["rule"], cell["learning_rate"]) == (task, rule, rate)
            and "points" in cell
        }

    def outcome(self, task: str, rule: str, rate: float, number: str) -> dict[int, float]:
        """Per seed the last value of `number`, where there is one."""
        return {
            seed: points[-1][number]
            for seed, points in self.curves(task, rule, rate).items()
            if points[-1].get(number) is not None
        }

    def gain(self, task: str, rule: str, rate: float, number: str) -> dict[int, float]:
        """Per seed how much `number` rose over the warm start, where it was known then."""
        starts = {
            seed: points[0][number]
            for seed, points in self.curves(task, rule, rate).items()
            if points[0].get(number) is not None
        }
        ends = self.outcome(task, rule, rate, number)
        return {seed: ends[seed] - starts[seed] for seed in ends if seed in starts}

    def best_rate(self, task: str, rule: str) -> float:
        """The learning rate with the best mean accuracy; of equals the smallest.

        Over the seeds that all rates were run on which were run at all.
        """
        outcomes = {
            rate: self.outcome(task, rule, rate, "accuracy")
            for rate in sorted(self.suite.learning_rates[rule])
        }
        run = {rate: found for rate, found in outcomes.items() if found}
        if not run:
            return min(outcomes)
        shared = set.intersection(*(set(found) for found in run.values()))
        means = {
            rate: sum(found[seed] for seed in shared) / max(len(shared), 1)
            for rate, found in run.items()
        }
        return max(means, key=lambda rate: means[rate])


def cell_of(line: Mapping[str, Any]) -> Cell:
    """Which cell a line of a result set is of."""
    return Cell(line["task"], line["rule"], line["learning_rate"], line["seed"])


def last_words(failure: str) -> str:
    """The end of the reason why a cell failed, of a traceback its error."""
    return (failure.strip() or "no reason").splitlines()[-1]


def write_results(results: ResultSet, path: Path) -> None:
    """One line that describes the set, then one per cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(line, ensure_ascii=False) for line in (results.about, *results.cells)]
    draft = path.with_name(path.name + ".tmp")
    draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(draft, path)


def read_results(path: Path) -> ResultSet:
    """What `write_results` wrote; a folder stands for the `results.jsonl` in it."""
    path = path / "results.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"there is no result set {path}")
    lines = read_lines(path)
    if not lines or not lines[0].keys() >= {*ABOUT}:
        raise ValueError(
            f"{path} is no result set: its first line must hold {', '.join(ABOUT)}; sightline "
            "compare --suite writes one"
        )
    results = ResultSet(lines[0], lines[1:])
    wanted, there = set(results.suite.cells()), set()
    for number, line in enumerate(results.cells, 2):
        there.add(_check(f"{path}, line {number},", line, wanted, there))
    return results


def _check(
    what: str, line: Mapping[str, Any], wanted: Collection[Cell], there: Collection[Cell]
) -> Cell:
    """The cell of a line; raise where it is none of those `wanted` that are not `there` yet."""
    try:
        known = line["points"] if "points" in line else line["failure"].strip()
        if not isinstance(line["learning_rate"], float) or type(line["seed"]) is not int:
            raise ValueError(
                f"{what} is no cell: its learning rate is {line['learning_rate']!r} and its seed "
                f"{line['seed']!r}"
            )
        cell = cell_of(line)
    except KeyError as error:
        raise ValueError(f"{what} is no cell: it lacks {error}") from error
    if cell not in wanted:
        raise ValueError(f"{what} is of a cell that its suite does not have: {cell.name}")
    if cell in there:
        raise ValueError(f"{what} is of a cell that stands before: {cell.name}")
    if not known:
        raise ValueError(f"{what} has neither points nor a failure: {cell.name}")
    return cell
