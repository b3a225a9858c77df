"""What is compared: tasks, rules, learning rates and seeds, from a YAML file."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from .. import tasks
from ..algorithms import Algorithm
from .cell import Cell, Protocol
from .rules import find_rule

SUITES = Path(__file__).parent / "suites"


@dataclass(frozen=True)
class Suite:
    """The cells to run: every task with every rule, each rule at its learning rates, on all seeds.

    Args:
        name: of the folder that its runs go to.
        text: the YAML it was read from.
        tasks: names that `tasks.load` knows.
        rules: by name.
        learning_rates: per rule.
        seeds: of warm start, questions and samples.
        protocol: what all cells have in common.
        reference: the rule that the others are compared with.
        oracle: the rule that stands for all there is to gain, or None.
    """

    name: str
    text: str
    tasks: list[str]
    rules: dict[str, Algorithm]
    learning_rates: dict[str, list[float]]
    seeds: list[int]
    protocol: Protocol
    reference: str
    oracle: str | None

    @property
    def sha256(self) -> str:
        """Of the file."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def cells(self) -> Iterator[Cell]:
        """In the order they are run: a suite that is cut short has all rules on its first seeds."""
        for seed in self.seeds:
            for task in self.tasks:
                for rule in self.rules:
                    for rate in self.learning_rates[rule]:
                        yield Cell(task, rule, rate, seed)


def find_suite(name: str) -> Suite:
    """The suite of this name that comes with the package, or of this file."""
    path = SUITES / f"{name}.yaml"
    if not path.exists():
        path = Path(name)
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SUITES.glob("*.yaml")))
        raise ValueError(f"there is no suite {name!r}: give one of {known}, or a YAML file")
    return parse_suite(path.stem, path.read_text(encoding="utf-8"))


def parse_suite(name: str, text: str) -> Suite:
    """The suite that `text` describes, in YAML.

    `tasks`; `rules`, names of `RULES` or a mapping of new names to `{of: NAME, field: value}`;
    `learning_rates`, a list, or per rule with `default` for the rest; `seeds`, a list or
    `{first: 100, count: 10}`; `protocol`, fields of `Protocol`; `reference` and `oracle`.

    Raises:
        ValueError: something is missing, unknown or of the wrong kind; by name.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"suite {name} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"suite {name} must be a YAML mapping, got {content!r}")
    known = ("tasks", "rules", "learning_rates", "seeds", "protocol", "reference", "oracle")
    for key in content:
        if key not in known:
            raise ValueError(f"suite {name}: unknown key {key!r}; known: {', '.join(known)}")
    for key in known[:4]:
        if not content.get(key):
            raise ValueError(f"suite {name} lacks {key}")
    for task in content["tasks"]:
        tasks.load(task)  # raises
    rules = _rules(content["rules"])
    reference, oracle = content.get("reference", "uniform"), content.get("oracle")
    for role, rule in (("reference", reference), ("oracle", oracle)):
        if rule is not None and rule not in rules:
            raise ValueError(f"suite {name}: its {role} {rule!r} is not among its rules")
    return Suite(
        name=name,
        text=text,
        tasks=list(content["tasks"]),
        rules=rules,
        learning_rates=_rates(name, content["learning_rates"], rules),
        seeds=_seeds(name, content["seeds"]),
        protocol=_protocol(name, content.get("protocol") or {}),
        reference=reference,
        oracle=oracle,
    )


def _rules(content: Any) -> dict[str, Algorithm]:
    if isinstance(content, dict):
        return {name: find_rule(name, settings) for name, settings in content.items()}
    rules: dict[str, Algorithm] = {}
    for entry in content:  # a name, or a mapping of one
        pairs = entry.items() if isinstance(entry, dict) else [(entry, None)]
        rules |= {name: find_rule(name, settings) for name, settings in pairs}
    return rules


def _rates(name: str, content: Any, rules: Mapping[str, Algorithm]) -> dict[str, list[float]]:
    per_rule = content if isinstance(content, dict) else {"default": content}
    unknown = sorted(per_rule.keys() - rules.keys() - {"default"})
    if unknown:
        raise ValueError(f"suite {name}: learning_rates of {unknown[0]!r}, which is no rule of it")
    rates = {}
    for rule in rules:
        found = per_rule.get(rule, per_rule.get("default"))
        if found is None:
            raise ValueError(f"suite {name}: no learning rate for {rule!r}, and no default")
        try:  # YAML takes 1e-4 for a string
            rates[rule] = [float(rate) for rate in (found if isinstance(found, list) else [found])]
        except ValueError as error:
            raise ValueError(f"suite {name}: learning rates of {rule!r}: {error}") from error
        if not rates[rule] or min(rates[rule]) <= 0:
            raise ValueError(f"suite {name}: learning rates must be above 0, got {found!r}")
    return rates


def _seeds(name: str, content: Any) -> list[int]:
    if isinstance(content, dict):
        content = range(content["first"], content["first"] + content["count"])
    seeds = list(content)
    if len(set(seeds)) < len(seeds) or not all(isinstance(seed, int) for seed in seeds):
        raise ValueError(f"suite {name}: seeds must be different whole numbers, got {seeds}")
    return seeds


def _protocol(name: str, content: Mapping[str, Any]) -> Protocol:
    names = [item.name for item in fields(Protocol)]
    if unknown := sorted(content.keys() - set(names)):
        raise ValueError(f"suite {name}: protocol has no {unknown[0]!r}; known: {', '.join(names)}")
    return Protocol(**content)
