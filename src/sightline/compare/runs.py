"""Two finished runs on the same held-out questions: their paired difference."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..evaluate import bootstrap_interval, mcnemar
from ..records import HELD_OUT_FILE, read_lines


def compare_runs(first: Path, second: Path) -> str:
    """How much better the second run is than the first, question by question, in lines to read.

    Raises:
        ValueError: a run has no held-out answers, or they were asked different questions.
    """
    if first.resolve() == second.resolve():
        raise ValueError(f"{first} is compared with itself: give two runs")
    one, two = _answers(first), _answers(second)
    if one.keys() != two.keys() or any(one[i]["gold"] != two[i]["gold"] for i in one):
        shared = len(one.keys() & two.keys())
        raise ValueError(
            f"{first} and {second} were not asked the same held-out questions: {len(one)} and "
            f"{len(two)}, {shared} ids in common; compare runs of one task and one seed"
        )
    lines = [f"{len(one)} held-out questions, second minus first", f"  first   {first}"]
    lines.append(f"  second  {second}")
    for name, title in (("right", "answers right"), ("read", "all words read right")):
        if not all(f"{name}_after" in line for run in (one, two) for line in run.values()):
            continue  # the demo does not tell what it read
        before, after = ([bool(run[i][f"{name}_after"]) for i in one] for run in (one, two))
        differences = [float(b) - float(a) for a, b in zip(before, after, strict=True)]
        low, high = bootstrap_interval(differences)
        only_first, only_second, p = mcnemar(before, after)
        lines.append(
            f"{title}: {sum(before) / len(one):.1%} and {sum(after) / len(one):.1%}, "
            f"{100 * sum(differences) / len(one):+.1f} points, 95 % interval {100 * low:+.1f} to "
            f"{100 * high:+.1f}; {only_first} by the first alone, {only_second} by the second "
            f"alone, McNemar's exact p = {p:.3g}"
        )
    lines.append(
        "The questions are the sample, not the seeds: this says whether these two policies differ, "
        "not whether their methods do."
    )
    return "\n".join(lines)


def _answers(folder: Path) -> dict[str, Mapping[str, Any]]:
    lines = read_lines(folder / HELD_OUT_FILE)
    if not lines:
        raise ValueError(
            f"{folder} has no {HELD_OUT_FILE}: give folders of sightline demo or of cells of "
            "sightline compare; two evaluations are compared by sightline eval --compare"
        )
    for number, line in enumerate(lines, 1):
        if lacking := [name for name in ("id", "gold", "right_after") if name not in line]:
            raise ValueError(
                f"{folder / HELD_OUT_FILE}, line {number}, lacks {', '.join(lacking)}: the file is "
                "not one that sightline wrote after training"
            )
    return {line["id"]: line for line in lines}
