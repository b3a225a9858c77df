"""Result sets from run folders, and from earlier sittings: only what can be compared."""

import json
import os
import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .cell import Cell
from .code import differing
from .code import versions as current_versions
from .results import ResultSet, cell_of
from .runner import is_finished, read_about
from .suite import SUITES, Suite

DIGITS = 5  # of a number that is kept


def collect(
    suite: Suite,
    folder: Path,
    registration: Mapping[str, Any],
    earlier: ResultSet | None = None,
) -> ResultSet:
    """What the finished and the failed cells of `suite` in `folder` gave.

    A seed of a task of which a cell is still to be run is left out: rules would be compared on
    seeds that happened to come first. Nothing is lost, it stays in its run folders.

    Args:
        earlier: a result set that the suite went on from; its cells stand for those that `folder`
            does not have.

    Raises:
        ValueError: they were not all made by the same versions or as the suite says, or cells of
            one task and seed did not begin with the same weights or data and so are no pairs.
    """
    kept = {cell_of(line): line for line in earlier.cells} if earlier else {}
    cells, versions, machines = [], {}, []
    if earlier:
        machines.append(earlier.about["machine"])
        versions["the earlier result set"] = earlier.about["versions"]
    for cell in suite.cells():
        path = folder / cell.name
        line = asdict(cell)
        if is_finished(path):
            found, told = _read(path / "result.json"), read_about(cell, suite, folder)
            versions[cell.name] = told["versions"]
            cells.append(
                line
                | {"start_sha256": found["start_sha256"][:16]}
                | {"data_sha256": told["data_sha256"][:16]}
                | {"points": [_short(point) for point in found["points"]]}
                | {"training": _short(found["training"])}
            )
        elif cell in kept:
            cells.append(kept[cell])
        elif (path / "failure.json").exists():
            cells.append(line | {"failure": _read(path / "failure.json")["reason"]})
    whole = whole_seeds(suite, {cell_of(line) for line in cells})
    cells = [line for line in cells if (line["task"], line["seed"]) in whole]
    if not any("points" in line for line in cells):
        failed = f"; {len(whole)} failed, see {folder / 'failures.jsonl'}" if whole else ""
        raise ValueError(
            f"suite {suite.name} has no seed of a task of which all cells are finished in "
            f"{folder}{failed}"
        )
    _check_versions(versions)
    _check_pairs(cells)
    if len(versions) > bool(earlier):  # of cells that were run here
        machines.append(f"{os.cpu_count()} cores, {platform.machine()}")
    about = {
        "name": suite.name,
        "command": _command(suite, registration),
        "machine": "; ".join(dict.fromkeys(machines)),
        "versions": next(iter(versions.values())),
        "registration": dict(registration),
        "suite": suite.text,
    }
    return ResultSet(about, cells)


def _command(suite: Suite, registration: Mapping[str, Any]) -> str:
    """Without folders, which say nothing to others."""
    own = SUITES / f"{suite.name}.yaml"
    packaged = own.exists() and own.read_text(encoding="utf-8") == suite.text
    command = f"sightline compare --suite {suite.name}{'' if packaged else '.yaml'}"
    document = registration.get("document")
    return f"{command} --preregistration {document}" if document else command


def reusable(suite: Suite, earlier: ResultSet) -> ResultSet:
    """The cells of `earlier` that `suite` need not run again.

    The cells of a task and a seed compare because they began with the same weights, which another
    machine makes a little differently. So where one of them is still to be run all are, and the
    others of `earlier` are left out here.

    Raises:
        ValueError: `earlier` was run by another protocol, or a rule of that name was another.
    """
    if any("points" in line and "start_sha256" not in line for line in earlier.cells):
        raise ValueError(
            "this result set does not say which weights its cells began with, so nothing can be "
            "paired with them: it can be drawn again, not gone on from"
        )
    theirs = earlier.suite
    if theirs.protocol != suite.protocol:
        raise ValueError(
            f"cells of another protocol cannot be gone on from: {theirs.protocol} there, "
            f"{suite.protocol} in suite {suite.name}"
        )
    for rule in suite.rules.keys() & theirs.rules.keys():
        if suite.rules[rule] != theirs.rules[rule]:
            raise ValueError(
                f"rule {rule!r} is not the same: {theirs.rules[rule]} there, {suite.rules[rule]} "
                f"in suite {suite.name}; give it another name"
            )
    if earlier.about["versions"] != (now := current_versions()):
        differ = differing(earlier.about["versions"], now)
        raise ValueError(f"cells of other versions cannot be gone on from: {differ}")
    whole = whole_seeds(suite, {cell_of(line) for line in earlier.cells if "points" in line})
    wanted = {cell for cell in suite.cells() if (cell.task, cell.seed) in whole}
    return ResultSet(earlier.about, [c for c in earlier.cells if cell_of(c) in wanted])


def whole_seeds(suite: Suite, there: Collection[Cell]) -> set[tuple[str, int]]:
    """The tasks and seeds of which all cells of `suite` are `there`."""
    lacking = {(cell.task, cell.seed) for cell in suite.cells() if cell not in there}
    return {(cell.task, cell.seed) for cell in suite.cells()} - lacking


def _check_pairs(cells: Sequence[Mapping[str, Any]]) -> None:
    first: dict[tuple[str, int], Mapping[str, Any]] = {}
    for line in cells:
        if "points" not in line:
            continue
        other = first.setdefault((line["task"], line["seed"]), line)
        for key, what in (("start_sha256", "weights"), ("data_sha256", "data")):
            if line.get(key) != other.get(key):
                raise ValueError(
                    f"cells of one task and seed must begin with the same {what}, got "
                    f"{other.get(key)} in {cell_of(other).name} and {line.get(key)} in "
                    f"{cell_of(line).name}: remove the folders of the one or the other and run "
                    "the suite again"
                )


def _check_versions(versions: Mapping[str, Mapping[str, str]]) -> None:
    first, *others = versions
    for name in others:
        if versions[name] != versions[first]:
            raise ValueError(
                "cells of one result set must come from the same versions, got "
                f"{differing(versions[name], versions[first])} in {name} and {first}: remove the "
                "folders of the one or the other and run the suite again"
            )


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _short(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: round(value, DIGITS) if isinstance(value, float) else value
        for name, value in numbers.items()
    }
