"""A result set in numbers: outcome, difference, headroom and cost of each rule on each task.

And over all tasks, which are then the sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .results import ResultSet
from .statistics import (
    FEWEST,
    Difference,
    Share,
    difference_of,
    holm,
    mean_of,
    minus,
    share_of,
)
from .suite import has_to_read

OUTCOME = "accuracy"  # greedy, on held-out questions, after the last step
MEASURES = ("precision_kl", "precision_k3", "auroc_k3")  # does the measure feed on its own errors?

Interval = tuple[float, float | None, float | None]  # a mean over seeds, and its ends or None


@dataclass(frozen=True)
class Standing:
    """How a rule does on a task, at the best of its learning rates.

    Args:
        rate: the learning rate.
        seeds: on which it was run to the end.
        failed: cells of this rule and rate that failed.
        gain: over the warm start, a mean over seeds, with the ends of its interval or None.
        difference: from the reference; None for itself and with fewer than two shared seeds.
        p: of the difference, corrected for all rules of the task (Holm).
        headroom: share of the oracle's gain, both over the warm start.
        strict: the same over the reference: (rule - reference) / (oracle - reference).
        first, last: means over seeds of every number measured, before and after.
        training: means over seeds of what the updates were like, `cell.WATCHED`.
        changes: of each of `MEASURES`, how far it rose in training, and how much further than
            under the reference: two means over seeds with their intervals, as far as there are any.
    """

    task: str
    rule: str
    rate: float
    seeds: list[int]
    failed: int
    gain: Interval
    difference: Difference | None
    p: float | None
    headroom: Share | None
    strict: Share | None
    first: dict[str, float | None]
    last: dict[str, float | None]
    training: dict[str, float | None]
    changes: dict[str, tuple[Interval | None, Interval | None]]

    @property
    def label(self) -> str:
        """Of a figure."""
        return f"{self.rule}  (lr {self.rate:g})"


def standings(results: ResultSet) -> list[Standing]:
    """Every rule on every task, in the order of the suite; rules without a finished cell left out.

    A suite with several learning rates for a rule shows its best one, chosen on the same seeds:
    that is for tuning, and no fair comparison.
    """
    return [standing for task in results.suite.tasks for standing in _of_task(results, task)]


def _of_task(results: ResultSet, task: str) -> list[Standing]:
    suite = results.suite
    rates = {rule: results.best_rate(task, rule) for rule in suite.rules}
    outcomes = {rule: results.outcome(task, rule, rates[rule], OUTCOME) for rule in suite.rules}
    gains = {rule: results.gain(task, rule, rates[rule], OUTCOME) for rule in suite.rules}
    rises = {
        rule: {number: results.gain(task, rule, rates[rule], number) for number in MEASURES}
        for rule in suite.rules
    }
    reference = outcomes[suite.reference]
    differences = {
        rule: difference_of([*leads.values()])
        for rule, outcome in outcomes.items()
        if rule != suite.reference and len(leads := minus(outcome, reference)) > 1
    }
    corrected = holm({rule: found.p for rule, found in differences.items() if rule != suite.oracle})
    oracle = suite.oracle and outcomes[suite.oracle]
    found = []
    for rule in suite.rules:
        if not gains[rule]:
            continue
        cells = [c for c in results.cells if (c["task"], c["rule"]) == (task, rule)]
        cells = [cell for cell in cells if cell["learning_rate"] == rates[rule]]
        finished = [cell for cell in cells if "points" in cell]
        found.append(
            Standing(
                task=task,
                rule=rule,
                rate=rates[rule],
                seeds=sorted(gains[rule]),
                failed=sum("failure" in cell for cell in cells),
                gain=mean_of(list(gains[rule].values())),
                difference=differences.get(rule),
                p=corrected.get(rule),
                headroom=share_of(gains[rule], gains[suite.oracle]) if suite.oracle else None,
                strict=share_of(minus(outcomes[rule], reference), minus(oracle, reference))
                if oracle and rule != suite.reference
                else None,
                first=_means([cell["points"][0] for cell in finished]),
                last=_means([cell["points"][-1] for cell in finished]),
                training=_means([cell.get("training", {}) for cell in finished]),
                changes={
                    number: (
                        _mean(rises[rule][number]),
                        None
                        if rule == suite.reference
                        else _mean(minus(rises[rule][number], rises[suite.reference][number])),
                    )
                    for number in MEASURES
                },
            )
        )
    return found


@dataclass(frozen=True)
class Overall:
    """How a rule does over the tasks of a suite in which something has to be read.

    Args:
        means: per task, in the order of the suite, its difference from the reference, a mean over
            the seeds that both were run on; tasks without such a seed left out.
        difference: of these; the tasks are the sample.
        p: of the difference, corrected for all rules (Holm); None for the oracle.
    """

    rule: str
    means: dict[str, float]
    difference: Difference
    p: float | None

    @property
    def label(self) -> str:
        """Of a figure."""
        return self.rule


def over_tasks(results: ResultSet) -> list[Overall]:
    """Every rule beside the reference, if that was run on `FEWEST` such tasks; else nothing.

    Nothing either where a rule has several learning rates: each task would choose its own.
    """
    suite = results.suite
    if suite.has_rates_to_choose:
        return []

    def outcome(task: str, rule: str) -> dict[int, float]:
        return results.outcome(task, rule, suite.learning_rates[rule][0], OUTCOME)

    read = [task for task in suite.tasks if has_to_read(task)]
    reference = {task: found for task in read if (found := outcome(task, suite.reference))}
    if len(reference) < FEWEST:
        return []
    means: dict[str, dict[str, float]] = {}
    for rule in suite.rules:
        if rule != suite.reference:
            leads = {task: minus(outcome(task, rule), found) for task, found in reference.items()}
            means[rule] = {t: float(np.mean([*lead.values()])) for t, lead in leads.items() if lead}
    differences = {rule: difference_of([*found.values()]) for rule, found in means.items() if found}
    corrected = holm({rule: d.p for rule, d in differences.items() if rule != suite.oracle})
    return [
        Overall(rule, means[rule], difference, corrected.get(rule))
        for rule, difference in differences.items()
    ]


def _mean(each: Mapping[int, float]) -> Interval | None:
    return mean_of(list(each.values())) if each else None


def _means(numbers: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for name in dict.fromkeys(name for found in numbers for name in found):
        known = [found[name] for found in numbers if found.get(name) is not None]
        means[name] = float(np.mean(known)) if known else None
    return means
