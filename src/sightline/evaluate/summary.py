"""Samples → the numbers of an evaluation, and the table that shows them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..rewards import normalise, same_answer
from .statistics import bootstrap_interval, majority_accuracy, pass_at_k

TITLES = {"true": "its own image", "none": "no image", "other": "another row's image"}


@dataclass(frozen=True)
class Question:
    """What the samples of one question say.

    Args:
        judged: samples with a verdict.
        right: samples that are right.
        samples: all of them.
        majority: how often the most frequent answer is right.
    """

    judged: int
    right: int
    samples: int
    majority: float

    @property
    def accuracy(self) -> float | None:
        """The share of right ones among the judged samples; None where none was judged."""
        return self.right / self.judged if self.judged else None

    @property
    def solved(self) -> bool:
        """Whether more than half of all samples are right."""
        return 2 * self.right > self.samples

    def passed(self, k: int) -> float:
        """`pass_at_k`; a sample that could not be judged is not right."""
        return pass_at_k(self.samples, self.right, k)


def questions(samples: Iterable[Mapping[str, Any]], condition: str) -> dict[str, Question]:
    """The questions asked under `condition`, by id."""
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    for sample in samples:
        if sample["condition"] == condition:
            by_id.setdefault(sample["id"], []).append(sample)
    return {name: _question(lines) for name, lines in by_id.items()}


def _question(lines: Sequence[Mapping[str, Any]]) -> Question:
    right = [line["reward"] == 1 for line in lines]
    votes = same_votes([line["answer"] if line["reward"] is not None else None for line in lines])
    judged = sum(line["reward"] is not None for line in lines)
    return Question(judged, sum(right), len(lines), majority_accuracy(votes, right))


def same_votes(answers: Sequence[str | None]) -> list[int | None]:
    """Number the answers, those that are the same in two spellings alike; None does not vote.

    The gold has no part in it: answers are compared with each other, by exact code.
    """
    spellings: list[str] = []
    votes: list[int | None] = []
    for answer in answers:
        try:
            text = normalise(answer) if answer else ""
        except ValueError:  # longer than any answer
            text = ""
        if not text:
            votes.append(None)
            continue
        vote = next((n for n, known in enumerate(spellings) if _same(known, text)), None)
        if vote is None:
            vote = len(spellings)
            spellings.append(text)
        votes.append(vote)
    return votes


def _same(one: str, other: str) -> bool:
    return one == other or bool(same_answer(one, other) and same_answer(other, one))


def summarise(
    samples: Sequence[Mapping[str, Any]], conditions: Sequence[str], n: int
) -> dict[str, Any]:
    """The numbers of each condition, and what the image is worth.

    Accuracy leaves out samples that could not be judged, as training does; `accuracy_bounds` says
    what it would be if they were all wrong, or all right.
    """
    found = {condition: questions(samples, condition) for condition in conditions}
    result: dict[str, Any] = {"conditions": {}, "differences": {}}
    for condition in conditions:
        lines = [sample for sample in samples if sample["condition"] == condition]
        result["conditions"][condition] = _numbers(found[condition], lines, n)
    for condition in conditions:
        if condition != "true" and "true" in found:
            result["differences"][f"true - {condition}"] = paired_difference(
                found[condition], found["true"]
            )
    return result


def _numbers(
    asked: Mapping[str, Question], lines: Sequence[Mapping[str, Any]], n: int
) -> dict[str, Any]:
    values = [q.accuracy for q in asked.values() if q.accuracy is not None]
    kinds = Counter(line["reward_reason"] for line in lines)
    errors = sum(line["reward"] is None for line in lines)
    right = sum(q.right for q in asked.values())
    numbers: dict[str, Any] = {
        "questions": len(asked),
        "samples": len(lines),
        f"avg@{n}": float(np.mean(values)) if values else None,
        "accuracy_ci95": bootstrap_interval(values) if values else None,
        "accuracy_bounds": [right / len(lines), (right + errors) / len(lines)],
    }
    for k in sorted({n, *(2**power for power in range(1, n.bit_length()) if 2**power < n)}):
        passed = [q.passed(k) for q in asked.values()]
        numbers[f"pass@{k}"] = float(np.mean(passed))
    numbers["pass_ci95"] = bootstrap_interval([q.passed(n) for q in asked.values()])
    votes = [q.majority for q in asked.values()]
    numbers[f"majority@{n}"] = float(np.mean(votes))
    numbers["majority_ci95"] = bootstrap_interval(votes)
    numbers["verdicts"] = dict(sorted(kinds.items()))
    numbers["cut_off"] = sum(not line["ended"] for line in lines)
    numbers["mean_length"] = float(np.mean([line["length"] for line in lines]))
    return numbers


def paired_difference(
    first: Mapping[str, Question], second: Mapping[str, Question]
) -> dict[str, Any] | None:
    """How much more accurate the second is than the first, over questions judged on both sides.

    None if there is no such question.
    """
    pairs = [(first[name].accuracy, second[name].accuracy) for name in first if name in second]
    gains = [b - a for a, b in pairs if a is not None and b is not None]
    if not gains:
        return None
    return {
        "questions": len(gains),
        "difference": float(np.mean(gains)),
        "ci95": bootstrap_interval(gains),
    }


def table(summary: Mapping[str, Any], n: int) -> list[str]:
    """The lines that a reader sees at the end."""
    left = max(len(TITLES[condition]) for condition in summary["conditions"])
    lines = [
        f"{'':{left}}   avg@{n:<4} 95 % interval    {f'pass@{n}':>8}  {f'majority@{n}':>11}"
        "  no answer  cut off  errors"
    ]
    for condition, found in summary["conditions"].items():
        count, verdicts = found["samples"], found["verdicts"]
        errors = verdicts.get("timed_out", 0) + verdicts.get("raised", 0)
        accuracy = found[f"avg@{n}"]
        shown = (
            f"{'n/a':>8}  {'':16}"
            if accuracy is None
            else f"{accuracy:8.1%}  {interval(found['accuracy_ci95']):16}"
        )
        lines.append(
            f"{TITLES[condition]:{left}} {shown}{found[f'pass@{n}']:8.1%}"
            f"  {found[f'majority@{n}']:11.1%}  {verdicts.get('no_answer', 0) / count:9.1%}"
            f"  {found['cut_off'] / count:7.1%}  {errors:6d}"
        )
    for condition, found in summary["conditions"].items():
        low, high = found["accuracy_bounds"]
        if low < high:
            lines.append(
                f"not all samples could be judged; {TITLES[condition]}: accuracy is {low:.1%} if "
                f"those are all wrong, {high:.1%} if all right"
            )
    for name, found in summary["differences"].items():
        lines.append(
            f"{TITLES['true']} rather than {TITLES[name.removeprefix('true - ')]}: "
            + (f"{points(found)}, {found['questions']} questions" if found else "n/a")
        )
    return lines


def interval(ends: Sequence[float]) -> str:
    """Two shares as `41.3 % to 49.0 %`, without the signs."""
    return f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


def points(found: Mapping[str, Any]) -> str:
    """A difference of shares with its interval, in percentage points."""
    low, high = found["ci95"]
    return (
        f"{100 * found['difference']:+.1f} points, 95 % interval {100 * low:+.1f} to "
        f"{100 * high:+.1f}"
    )
