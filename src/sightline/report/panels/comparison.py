"""Several runs beside each other: results, training curves, signs of collapse."""

from collections.abc import Sequence
from typing import Any

from ..charts import lines
from ..figures import smooth
from ..records import number
from ..runs import Run
from ..tables import Table
from .head import interval
from .side_by_side import side_by_side
from .training import METRICS, finite_points

COLLAPSE = {  # the metric, which way is bad, and how far from its first tenth to its last
    "entropy": ("entropy fell to a tenth", lambda first, last: last < 0.1 * first),
    "dependency/mean": ("dependency fell to a tenth", lambda first, last: last < 0.1 * first),
    "completions/mean_length": ("length more than tripled", lambda first, last: last > 3 * first),
    "frac_reward_zero_std": (
        "more than nine tenths of the groups have one reward for all",
        lambda first, last: last > 0.9,
    ),
    "completions/clipped_ratio": (
        "more than half of the responses are cut off",
        lambda first, last: last > 0.5,
    ),
}


def comparison(runs: Sequence[Run]) -> dict[str, Any]:
    """Curves of the metrics that at least one run logged, and one line of numbers for each run."""
    if len(runs) < 2:
        return {}
    names = labels(runs)
    figures = []
    for key, title in METRICS.items():
        series = {}
        for name, run in zip(names, runs, strict=True):
            if points := finite_points(run, key):
                steps, values = map(list, zip(*points, strict=True))
                series[name] = (steps, [(value, None, None) for value in smooth(values)])
            else:
                series[name] = ([], [])  # keeps the colours of the runs alike in every figure
        if any(steps for steps, _ in series.values()):
            svg = lines(f"compare-{key}", f"{title} of each run", series, ("step", ""),
                        (2.7, 1.55), legend=False)  # fmt: skip
            missing = [name for name, (steps, _) in series.items() if not steps]
            figures.append({"title": title, "svg": svg, "missing": missing})
    problem = tokenizer_problem(runs, names)
    rows = [(name, *numbers(run)) for name, run in zip(names, runs, strict=True)]
    header = ["run", "algorithm", "seed", "responses", "accuracy_after", "low", "high",
              "mean_dependency", "signs_of_collapse"]  # fmt: skip
    return {
        "figures": figures,
        "rows": rows,
        "tokenizers": problem,
        "trained": any(run.kind == "train" for run in runs),
        "scores": side_by_side(runs, names, words=bool(problem)),
        "table": Table("comparison", header, [(*row[:-1], "; ".join(row[-1])) for row in rows]),
    }


def labels(runs: Sequence[Run]) -> list[str]:
    """The names of the folders; those that share one are numbered."""
    names = [run.name for run in runs]
    return [
        f"{name} ({names[: index + 1].count(name)})" if names.count(name) > 1 else name
        for index, name in enumerate(names)
    ]


def numbers(run: Run) -> tuple[Any, ...]:
    means = [mean for r in run.counted if (mean := r.mean_dependency) is not None]
    return (
        run.algorithm.get("name") or run.result.get("algorithm"),
        run.about.get("seed", run.result.get("seed")),
        len(run.responses),
        number(run.result.get("accuracy_after")),
        *interval(run.result.get("accuracy_after_ci95")),
        sum(means) / len(means) if means else None,
        collapse_signs(run),
    )


def collapse_signs(run: Run) -> list[str]:
    """What changed between the first and the last tenth of training in a way that worries."""
    signs = []
    for key, (words, bad) in COLLAPSE.items():
        values = [value for _, value in finite_points(run, key)]
        if len(values) < 2:
            continue
        part = max(1, len(values) // 10)
        first, last = (sum(piece) / part for piece in (values[:part], values[-part:]))
        if bad(first, last):
            signs.append(words)
    return signs


def tokenizer_problem(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Which run splits the same response into other tokens than the first, or an empty string."""
    first = {r.text: r.tokens for r in runs[0].responses if r.text and r.tokens}
    for name, run in zip(names[1:], runs[1:], strict=True):
        stated = [about.get("tokenizer") for about in (runs[0].about, run.about)]
        differ = any(first.get(r.text, r.tokens) != r.tokens for r in run.responses if r.tokens)
        if differ or (None not in stated and stated[0] != stated[1]):
            return (
                f"{names[0]} and {name} split text into different tokens. Numbers per token "
                "(dependency, entropy, length) are not on one scale; dependency is compared per "
                "word here."
            )
    return ""
