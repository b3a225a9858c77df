"""What is compared: tasks, rules, learning rates and seeds, from a YAML file."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from .. import tasks
from ..algorithms import Algorithm
from .cell import Cell, Protocol
from .rules import find_rule
from .statistics import FEWEST
from .yaml_text import mapping, names, number, read_yaml, text_of

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

    @property
    def has_rates_to_choose(self) -> bool:
        """Whether a rule has several learning rates."""
        return any(len(rates) > 1 for rates in self.learning_rates.values())

    def cells(self) -> Iterator[Cell]:
        """In the order they are run: a suite that is cut short has all rules on its first seeds."""
        for seed in self.seeds:
            for task in self.tasks:
                for rule in self.rules:
                    for rate in self.learning_rates[rule]:
                        yield Cell(task, rule, rate, seed)


def has_to_read(task: str) -> bool:
    """Whether something has to be read from the picture in the task of this name."""
    module = tasks.load(task)
    text = module.demonstration(module.rows(1)[0], np.random.default_rng(0))
    return any(label == "visual" for _, _, label in module.spans(text) or [])


def find_suite(name: str) -> Suite:
    """The suite of this name that comes with the package, or of this file."""
    path = SUITES / f"{name}.yaml"
    if not path.exists():
        path = Path(name)
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SUITES.glob("*.yaml")))
        raise ValueError(f"there is no suite {name!r}: give one of {known}, or a YAML file")
    return parse_suite(path.stem, text_of(path))


def parse_suite(name: str, text: str) -> Suite:
    """The suite that `text` describes, in YAML.

    `tasks`; `rules`, names of `RULES` or a mapping of new names to `{of: NAME, field: value}`;
    `learning_rates`, a list, or per rule with `default` for the rest; `seeds`, a list or
    `{first: 100, count: 10}`; `protocol`, fields of `Protocol`; `reference` and `oracle`.

    Raises:
        ValueError: something is missing, unknown or of the wrong kind; by name.
    """
    what = f"suite {name}"
    needed = ("tasks", "rules", "learning_rates", "seeds")
    known = (*needed, "protocol", "reference", "oracle")
    content = mapping(what, read_yaml(what, text), known, needed)
    for task in names(f"{what}: tasks", content["tasks"]):
        if not hasattr(tasks.load(task), "twin"):  # load raises
            raise ValueError(f"{what}: task {task!r} has no twins and cannot be compared on")
        if variants := [name for name, (base, _) in tasks.VARIANTS.items() if base == task]:
            raise ValueError(f"{what}: task {task!r} comes as {', '.join(variants)}: say which")
    rules = _rules(what, content["rules"])
    reference, oracle = content.get("reference", "uniform"), content.get("oracle")
    for role, rule in (("reference", reference), ("oracle", oracle)):
        if rule not in list(rules) and not (role == "oracle" and rule is None):
            raise ValueError(f"{what}: its {role} {rule!r} is not among its rules")
    if reference == oracle:
        raise ValueError(f"{what}: {oracle!r} cannot be both its reference and its oracle")
    return Suite(
        name=name,
        text=text,
        tasks=content["tasks"],
        rules=rules,
        learning_rates=_rates(what, content["learning_rates"], rules),
        seeds=_seeds(what, content["seeds"]),
        protocol=_protocol(what, {} if content.get("protocol") is None else content["protocol"]),
        reference=reference,
        oracle=oracle,
    )


def check_sample(suite: Suite) -> None:
    """Raise where nothing would be compared, neither over seeds nor over tasks."""
    if len(suite.seeds) > 1:
        return
    if suite.has_rates_to_choose or sum(map(has_to_read, suite.tasks)) < FEWEST:
        raise ValueError(
            f"suite {suite.name}: rules are compared over seeds, at least 2 and from {FEWEST} on "
            f"with an interval, or over {FEWEST} tasks in which something has to be read, at one "
            f"learning rate a rule; got seeds {suite.seeds}"
        )


def _rules(what: str, content: Any) -> dict[str, Algorithm]:
    if isinstance(content, dict):
        pairs = list(content.items())
    elif isinstance(content, list):  # of names, and of mappings of one
        pairs = [
            pair
            for entry in content
            for pair in (entry.items() if isinstance(entry, dict) else [(entry, None)])
        ]
    else:
        raise ValueError(f"{what}: rules must be a list or a mapping of names, got {content!r}")
    for name in names(f"{what}: rules", [name for name, _ in pairs]):
        if not re.fullmatch(r"[\w.+-]+", name) or name.startswith("."):
            raise ValueError(
                f"{what}: a rule is the name of a folder, of letters, digits and _ . + -, got "
                f"{name!r}"
            )
    return {name: find_rule(name, settings) for name, settings in pairs}


def _rates(what: str, content: Any, rules: Mapping[str, Algorithm]) -> dict[str, list[float]]:
    per_rule = content if isinstance(content, dict) else {"default": content}
    unknown = [rule for rule in per_rule if rule not in (*rules, "default")]
    if unknown:
        raise ValueError(f"{what}: learning_rates of {unknown[0]!r}, which is no rule of it")
    rates: dict[str, list[float]] = {}
    for rule in rules:
        found = per_rule.get(rule, per_rule.get("default"))
        if found is None:
            raise ValueError(f"{what}: no learning rate for {rule!r}, and no default")
        several = found if isinstance(found, list) else [found]
        rates[rule] = [number(f"{what}: a learning rate of {rule!r}", rate) for rate in several]
        # the folder of a cell has its rate in it
        differ = len({f"{rate:g}" for rate in rates[rule]}) == len(rates[rule])
        if not rates[rule] or min(rates[rule]) <= 0 or not differ:
            raise ValueError(
                f"{what}: learning rates must be above 0 and differ in six digits, got {found!r}"
            )
    return rates


def _seeds(what: str, content: Any) -> list[int]:
    seeds = content
    if isinstance(content, dict) and content.keys() == {"first", "count"}:
        if all(type(value) is int for value in content.values()):
            seeds = list(range(content["first"], content["first"] + content["count"]))
    if (
        not isinstance(seeds, list)
        or not seeds
        or any(type(seed) is not int or seed < 0 for seed in seeds)
        or len(set(seeds)) < len(seeds)
    ):
        raise ValueError(
            f"{what}: seeds must be different whole numbers, at least 0, or "
            f"{{first: 100, count: 10}}, got {content!r}"
        )
    return seeds


def _protocol(what: str, content: Any) -> Protocol:
    known = [item.name for item in fields(Protocol)]
    settings = dict(mapping(f"{what}: protocol", content, known, ()))
    if settings.get("update_norm") is not None:
        settings["update_norm"] = number(f"{what}: update_norm", settings["update_norm"])
    return Protocol(**settings)
