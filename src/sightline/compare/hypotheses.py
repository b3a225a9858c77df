"""Hypotheses that were written down before a run, and what a result set says of each.

A document is a YAML mapping of names to hypotheses::

    H1:
      says: weight on what must be read and on the answer beats uniform credit
      task: digits-sum-48-free
      rules: [oracle, uniform]
      expect: above
      margin: 0.02

``rules`` names two, and the first minus the second is what is judged; ``task`` one task, or two
for how much larger that difference is on the first, or ``all`` for its mean over those of the suite
in which something has to be read. ``number`` is what is compared, ``accuracy`` unless told;
``of: change`` takes how far it rose in training, ``of: end`` what it ended at. The first is
expected to be ``above`` or ``below`` the second by more than ``margin`` (0 unless told), or
``within`` it on either side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..tasks import load
from .measure import FOUND, MEASURED
from .results import ResultSet
from .statistics import FEWEST, difference_of, minus
from .suite import Suite, has_to_read
from .yaml_text import mapping, names, number, read_yaml

EXPECT = ("above", "below", "within")
OF = ("end", "change")
# their differences are told in points; the other numbers have units of their own
SHARES = [n for n in MEASURED if not n.startswith(("dependency", "tokens", "passes", "seconds"))]


@dataclass(frozen=True)
class Hypothesis:
    """What is expected of one number, with all that decides it.

    Args:
        tasks: one, or two of which the second's difference is taken away; or many, `over_tasks`.
        rules: the first minus the second.
        number: one of `measure.MEASURED`.
        of: `end`, or `change` for how far it rose in training.
        expect: `above` or `below` by more than the margin, or `within` it.
        margin: at least 0, in the units of `number`.
        over_tasks: the tasks are the sample, each with its mean over seeds.
    """

    name: str
    says: str
    tasks: tuple[str, ...]
    rules: tuple[str, str]
    number: str = "accuracy"
    of: str = "end"
    expect: str = "above"
    margin: float = 0.0
    over_tasks: bool = False


@dataclass(frozen=True)
class Verdict:
    """What the cells say of a hypothesis.

    Args:
        sample: seeds on which both rules were run to the end, on every task; or tasks, on each of
            which they were on some seed.
        mean, low, high: of the difference over the sample, with its 95 % interval; None without
            one, or for fewer than an interval takes.
        p: of the sign-flip test that there is no difference; None for a sample of fewer than two.
        said: `held`, `refuted` or `undecided`; by the interval and nothing else.
    """

    hypothesis: Hypothesis
    sample: int
    mean: float | None
    low: float | None
    high: float | None
    p: float | None
    said: str


def parse_hypotheses(text: str, suite: Suite) -> list[Hypothesis]:
    """The hypotheses of a document, all about tasks and rules of `suite`.

    Raises:
        ValueError: something is missing, unknown or of the wrong kind; by name.
    """
    content = read_yaml("the pre-registration", text)
    if not isinstance(content, dict) or not content:
        raise ValueError(
            f"a pre-registration must map names to hypotheses, got {content!r}; "
            "docs/compare.md shows one"
        )
    return [_parse(str(name), found, suite) for name, found in content.items()]


def check_seeds(hypotheses: Sequence[Hypothesis], suite: Suite) -> None:
    """Raise where all seeds of `suite` could not decide a hypothesis."""
    for hypothesis in hypotheses:
        if not hypothesis.over_tasks and len(suite.seeds) < FEWEST:
            raise ValueError(
                f"hypothesis {hypothesis.name}: it is judged by an interval over seeds, which "
                f"takes at least {FEWEST}; suite {suite.name} has {suite.seeds}"
            )


def _parse(name: str, content: Any, suite: Suite) -> Hypothesis:
    what = f"hypothesis {name}"
    needed = ("says", "task", "rules")
    content = mapping(what, content, (*needed, "number", "of", "expect", "margin"), needed)
    said = {"number": "accuracy", "of": "end", "expect": "above", "margin": 0.0, **content}
    for key, choices in (("number", MEASURED), ("of", OF), ("expect", EXPECT)):
        if said[key] not in choices:
            raise ValueError(
                f"{what}: {key} must be one of {', '.join(choices)}, got {said[key]!r}"
            )
    margin = number(f"{what}: margin", said["margin"])
    if margin < 0 or (said["expect"] == "within" and not margin):
        raise ValueError(
            f"{what}: margin must be at least 0, and above it for within, got {margin}"
        )
    if said["number"] in SHARES and margin >= 1:
        raise ValueError(
            f"{what}: margin is a share of 1, 0.03 for three points of {said['number']}, "
            f"got {margin}"
        )
    task, over_tasks = said["task"], said["task"] == "all"
    if over_tasks:
        task = [one for one in suite.tasks if has_to_read(one)]
    tasks = names(f"{what}: task", task if isinstance(task, list) else [task])
    rules = names(f"{what}: rules", said["rules"])
    if len(rules) != 2:
        raise ValueError(f"{what}: rules must be two, the first minus the second, got {rules}")
    if over_tasks and len(tasks) < FEWEST:
        raise ValueError(
            f"{what}: all takes at least {FEWEST} tasks of the suite in which something has to be "
            f"read, it has {tasks}"
        )
    if not over_tasks and not 1 <= len(tasks) <= 2:
        raise ValueError(
            f"{what}: task must be one, two of which the second is taken away, or all, got {tasks}"
        )
    for kind, named, there in (("task", tasks, suite.tasks), ("rule", rules, list(suite.rules))):
        if missing := [one for one in named if one not in there]:
            raise ValueError(
                f"{what}: the suite has no {kind} {missing[0]!r}; it has {', '.join(there)}"
            )
    for rule in rules:
        if len(suite.learning_rates[rule]) > 1:
            raise ValueError(
                f"{what}: {rule} has several learning rates in the suite, "
                f"{suite.learning_rates[rule]}, and the best of them would be chosen by what is "
                "judged: choose one on other seeds"
            )
    if said["number"] == "twin_accuracy" and not suite.protocol.twins:
        raise ValueError(f"{what}: twin_accuracy is not measured with twins: 0")
    for one in tasks:
        _check_measured(what, said["number"], one)
    return Hypothesis(
        name=name,
        says=str(said["says"]),
        tasks=tuple(tasks),
        rules=(rules[0], rules[1]),
        number=said["number"],
        of=said["of"],
        expect=said["expect"],
        margin=margin,
        over_tasks=over_tasks,
    )


def _check_measured(what: str, number: str, name: str) -> None:
    """Raise for a number that the task of this name has not."""
    task = load(name)
    if number == "twin_accuracy" and task.twin(task.rows(1)[0]) is None:
        raise ValueError(f"{what}: {name} has no twins, so no twin_accuracy")
    if number in FOUND and not has_to_read(name):
        raise ValueError(f"{what}: nothing has to be read in {name}, so it has no {number}")


def judge(hypothesis: Hypothesis, results: ResultSet) -> Verdict:
    """What `results` say: an interval wholly where it was expected, wholly not, or neither."""
    measured = results.outcome if hypothesis.of == "end" else results.gain
    per_task = []
    for task in hypothesis.tasks:
        first, second = (
            measured(task, rule, results.suite.learning_rates[rule][0], hypothesis.number)
            for rule in hypothesis.rules
        )
        per_task.append(minus(first, second))
    if hypothesis.over_tasks:
        each = [float(np.mean(list(found.values()))) for found in per_task if found]
    else:
        shared = sorted(set.intersection(*(set(found) for found in per_task)))
        each = [per_task[0][seed] - sum(found[seed] for found in per_task[1:]) for seed in shared]
    if not each:
        return Verdict(hypothesis, 0, None, None, None, None, "undecided")
    mean, low, high, p, _ = difference_of(each)
    p = p if len(each) > 1 else None
    return Verdict(hypothesis, len(each), mean, low, high, p, _said(hypothesis, low, high))


def _said(hypothesis: Hypothesis, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "undecided"
    margin = hypothesis.margin
    held, refuted = {
        "above": (low > margin, high < margin),
        "below": (high < -margin, low > -margin),
        "within": (-margin < low and high < margin, low > margin or high < -margin),
    }[hypothesis.expect]
    return "held" if held else "refuted" if refuted else "undecided"


def judge_all(results: ResultSet) -> list[Verdict]:
    """Of every hypothesis that was registered with this very suite before its first cell."""
    registration = results.about["registration"]
    text = registration["text"]
    if text is None or registration["suite_sha256"] != results.suite.sha256:
        return []
    return [judge(found, results) for found in parse_hypotheses(text, results.suite)]
