"""The result set of a suite: one file of JSON lines, from which every number and figure is made."""

import json
import os
import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..records import read_lines
from .runner import is_finished
from .suite import Suite, parse_suite

DIGITS = 5  # of a number that is kept


@dataclass(frozen=True)
class ResultSet:
    """What a suite gave.

    Args:
        about: command, machine, versions, pre-registration and the text of the suite.
        cells: per cell its `task`, `rule`, `learning_rate`, `seed` and either `points`, as
            `run_cell` measured them, or `failure`, the reason why there are none.
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
            seed: points[0].get(number) for seed, points in self.curves(task, rule, rate).items()
        }
        return {
            seed: value - starts[seed]
            for seed, value in self.outcome(task, rule, rate, number).items()
            if starts[seed] is not None
        }

    def best_rate(self, task: str, rule: str) -> float:
        """The learning rate with the best mean accuracy over seeds; of equals the smallest."""
        rates = self.suite.learning_rates[rule]
        means = {}
        for rate in rates:
            values = self.outcome(task, rule, rate, "accuracy")
            means[rate] = sum(values.values()) / len(values) if values else -1.0
        return max(sorted(rates), key=lambda rate: means[rate])


def collect(suite: Suite, folder: Path, registration: Mapping[str, Any]) -> ResultSet:
    """What the finished and the failed cells of `suite` in `folder` gave.

    Raises:
        ValueError: they were not all made by the same versions.
    """
    cells, versions = [], {}
    for cell in suite.cells():
        path = folder / cell.name
        line: dict[str, Any] = {
            "task": cell.task,
            "rule": cell.rule,
            "learning_rate": cell.learning_rate,
            "seed": cell.seed,
        }
        if is_finished(path):
            about = _read(path / "run.json")
            versions[cell.name] = about["versions"]
            cells.append(line | {"points": _short(_read(path / "result.json")["points"])})
        elif (path / "failure.json").exists():
            cells.append(line | {"failure": _read(path / "failure.json")["reason"]})
    if not versions:
        raise ValueError(f"no cell of suite {suite.name} is finished in {folder}")
    _check_versions(versions)
    about = {
        "name": suite.name,
        "command": f"sightline compare --suite {suite.name}",  # a path says nothing to others
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": next(iter(versions.values())),
        "registration": dict(registration),
        "suite": suite.text,
    }
    return ResultSet(about, cells)


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
    if not lines or "suite" not in lines[0]:
        raise ValueError(
            f"{path} is no result set: its first line must hold the suite; sightline compare "
            "--suite writes one"
        )
    return ResultSet(lines[0], lines[1:])


def _check_versions(versions: Mapping[str, Mapping[str, str]]) -> None:
    by_kind: dict[str, list[str]] = defaultdict(list)
    for name, found in versions.items():
        by_kind[json.dumps(found, sort_keys=True)].append(name)
    if len(by_kind) > 1:
        (one, of_one), (other, of_other) = list(by_kind.items())[:2]
        differing = {
            key: (value, json.loads(other).get(key))
            for key, value in json.loads(one).items()
            if json.loads(other).get(key) != value
        }
        raise ValueError(
            f"cells of one result set must come from the same versions, got {differing} in "
            f"{of_one[0]} and {of_other[0]}: remove the folders of the {len(of_other)} others and "
            "run the suite again"
        )


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _short(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            name: round(value, DIGITS) if isinstance(value, float) else value
            for name, value in point.items()
        }
        for point in points
    ]
