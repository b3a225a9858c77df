"""What the responses of several runs say, and paired differences where runs share responses."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...right_and_wrong import effect_of
from ..charts import Interval, counts, exceedance, lines
from ..drawing import Drawing
from ..figures import share_held
from ..records import Response
from ..runs import Run
from ..statistics import mean_interval, wilson
from ..tables import Table
from .distribution import PERCENTS

Values = Mapping[tuple[str, str], list[float]]  # of each response, by its id and text


def side_by_side(runs: Sequence[Run], names: Sequence[str], words: bool) -> dict[str, Any]:
    """Distributions, right and wrong, and paired differences; empty if no run has a dependency.

    Args:
        words: sum dependency over words, because the tokens of the runs are not the same ones.
    """
    if not any(run.counted for run in runs):
        return {}
    unit = "word" if words else "token"
    values = [units(run, words) for run in runs]
    rows = [(name, *of_run(run, own)) for name, run, own in zip(names, runs, values, strict=True)]
    pairs = [
        (name, *paired(values[0], own))
        for name, own in zip(names[1:], values[1:], strict=True)
        if values[0].keys() & own.keys()
    ]
    flat = {
        name: [v for one in own.values() for v in one]
        for name, own in zip(names, values, strict=True)
    }
    held = {name: [share_held(own, percent) for percent in PERCENTS] for name, own in flat.items()}
    return {
        "unit": unit,
        "first": names[0],
        "rows": rows,
        "shares": [(name, *shares) for name, shares in held.items()],
        "percents": PERCENTS,
        "pairs": [(name, len(found), *rest) for name, found, *rest in pairs],
        "alone": [name for name in names[1:] if name not in {pair[0] for pair in pairs}],
        "not_aligned": [
            (name, lost)
            for name, run, own in zip(names, runs, values, strict=True)
            if (lost := len(run.counted) - len(own))
        ],
        "distribution": exceedance(
            "compare-distribution",
            f"Share of {unit}s above each dependency, for each run",
            flat,
            (f"dependency of a {unit}, nats", f"share of {unit}s above"),
        ),
        "held": held_figure(held, unit),
        "differences": differences_figure(pairs, unit, names[0]) if pairs else "",
        "tables": tables(rows, pairs, unit, names[0]),
    }


def held_figure(held: Mapping[str, Sequence[float | None]], unit: str) -> Drawing:
    """What the top so many per cent hold of all dependency, a line for each run."""
    series: dict[str, tuple[list[float], list[Interval]]] = {}
    for name, shares in held.items():
        known = [(float(p), s) for p, s in zip(PERCENTS, shares, strict=True) if s is not None]
        series[name] = [place for place, _ in known], [(share, None, None) for _, share in known]
    return lines(
        "compare-share",
        f"Share of all dependency held by the top {unit}s of each run",
        series,
        (f"most dependent {unit}s, %", "share of all dependency"),
        (3.6, 2.2),
        legend=False,
    )


def differences_figure(pairs: Sequence[tuple[Any, ...]], unit: str, first: str) -> Drawing:
    return counts(
        "compare-paired",
        "Paired differences of mean dependency",
        {f"{name} less {first}, n = {len(found)}": found for name, found, *_ in pairs},
        f"difference of mean dependency, nats per {unit}",
    )


def units(run: Run, words: bool) -> dict[tuple[str, str], list[float]]:
    """The dependencies of each response's tokens or words; responses without any are left out."""
    found = {}
    for response in run.counted:
        values = of_words(response) if words else response.finite_dependency
        if values:
            found.setdefault((response.id, response.text or "".join(response.tokens)), values)
    return found


def of_words(response: Response) -> list[float]:
    """Dependency summed over each word; empty if the tokens do not spell the text.

    A token belongs to the word in which its first character that is no space lies, one of spaces to
    the word after it. Tokens after the text, such as the one that ends a turn, belong to none.
    """
    if not response.text or not "".join(response.tokens).startswith(response.text):
        return []
    owner = np.full(len(response.text), -1)
    spans = [match.span() for match in re.finditer(r"\S+", response.text)]
    for word, (start, end) in enumerate(spans):
        owner[start:end] = word
    sums, place = [0.0] * len(spans), 0
    for token, value in zip(response.tokens, response.dependency or [], strict=True):
        at = place + len(token) - len(token.lstrip())
        if value is not None and at < len(owner) and owner[at] >= 0:
            sums[owner[at]] += value
        place += len(token)
    return sums


def of_run(run: Run, values: Values) -> tuple[Any, ...]:
    """Counts, accuracy, means of all, right and wrong responses, and the effect size."""
    verdicts = {
        (r.id, r.text or "".join(r.tokens)): r.right for r in run.counted if r.right is not None
    }
    means = {key: float(np.mean(own)) for key, own in values.items()}
    judged = [(verdicts[key], mean) for key, mean in means.items() if key in verdicts]
    right = np.array([verdict for verdict, _ in judged], dtype=bool)
    groups = [[mean for verdict, mean in judged if verdict is side] for side in (True, False)]
    everything = list(means.values())
    effect = effect_of(*groups)
    return (
        len(means),
        float(right.mean()) if judged else None,
        *(wilson(right) if len(judged) else (None, None)),
        float(np.mean(everything)) if everything else None,
        *mean_interval(everything, np.ones(len(everything))),
        *(value for g in groups for value in (float(np.mean(g)) if g else None, len(g))),
        effect and effect.delta,
        *((effect and effect.interval) or (None, None)),
    )


def paired(first: Values, other: Values) -> tuple[Any, ...]:
    """Differences of the means of the responses that both have, other less first.

    Returns:
        the differences, both means, the mean difference with its interval over responses, and the
        share of responses that are higher in the other.
    """
    both = [key for key in first if key in other]
    a, b = (np.array([np.mean(side[key]) for key in both]) for side in (first, other))
    difference = b - a
    interval = mean_interval(difference, np.ones(len(both)))
    higher = float((difference > 0).mean())
    means = float(a.mean()), float(b.mean()), float(difference.mean())
    return difference.tolist(), *means, *interval, higher


def tables(
    rows: Sequence[tuple[Any, ...]], pairs: Sequence[tuple[Any, ...]], unit: str, first: str
) -> list[Table]:
    header = ["run", "responses", "accuracy", "accuracy_low", "accuracy_high", "mean", "low",
              "high", "mean_right", "right", "mean_wrong", "wrong", "cliffs_delta", "delta_low",
              "delta_high", "unit"]  # fmt: skip
    between = ["run", "less", "pairs", "mean_first", "mean", "difference", "low", "high",
               "share_higher", "unit"]  # fmt: skip
    return [
        Table("comparison_scores", header, [(*row, unit) for row in rows]),
        Table(
            "comparison_paired",
            between,
            [(name, first, len(found), *rest, unit) for name, found, *rest in pairs],
        ),
    ]
