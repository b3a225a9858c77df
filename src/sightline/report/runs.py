"""A run folder as the report sees it: the content of its files, whatever is missing."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .records import (
    Response,
    as_object,
    as_text,
    number,
    read_lines,
    read_object,
    read_response,
)

PARTIAL = "tokens.partial.jsonl"  # what is scored of a run that is not finished, in any order
FILES = "run.json", "result.json", "metrics.jsonl", "tokens.jsonl", "samples.jsonl", PARTIAL


@dataclass(frozen=True)
class Run:
    """What the files of one run folder hold; ``problems`` names what could not be read.

    Args:
        about: the content of ``run.json``.
        attribution: the lines of ``attribution.jsonl``.
    """

    folder: Path
    about: dict[str, Any]
    result: dict[str, Any]
    metrics: list[dict[str, Any]]
    responses: list[Response]
    attribution: list[dict[str, Any]]
    problems: list[str]

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def kind(self) -> str:
        """``score``, ``eval`` or ``train``."""
        known = "eval" if "protocol" in self.about else "train"
        return as_text(self.about.get("kind")) or known

    @property
    def algorithm(self) -> Mapping[str, Any]:
        return as_object(self.about.get("algorithm"))

    @property
    def gate(self) -> tuple[float, float]:
        """The run's own threshold and least range if it ran PGPO, else PGPO's published ones."""
        settings = self.algorithm if self.algorithm.get("name") == "pgpo" else {}
        threshold, min_range = number(settings.get("threshold")), number(settings.get("min_range"))
        return 0.4 if threshold is None else threshold, 1e-6 if min_range is None else min_range

    @cached_property
    def scored(self) -> list[Response]:
        return [response for response in self.responses if response.dependency is not None]

    @cached_property
    def counted(self) -> list[Response]:
        """What the figures count: the scored responses of the splits `COUNTED`, or else all."""
        return [r for r in self.scored if r.of_counted_split] or self.scored


def read_run(folder: Path) -> Run:
    """The files of a run folder.

    Raises:
        FileNotFoundError: there is none of them.
    """
    files = [folder / name for name in FILES]
    if not any(file.is_file() for file in files):
        raise FileNotFoundError(f"{folder} is no run folder: it has none of {', '.join(FILES)}")
    problems: list[str] = []
    about, result = (read_object(file, problems) for file in files[:2])
    metrics, records, samples = (read_lines(file, problems) for file in files[2:5])
    found = records or samples  # samples are those of an evaluation
    if not found:
        partial = read_lines(folder / PARTIAL, problems)
        found = sorted(partial, key=lambda record: number(record.get("place")) or 0.0)
    attribution = read_lines(folder / "attribution.jsonl", problems)
    return Run(
        folder, about, result, metrics, list(map(read_response, found)), attribution, problems
    )
