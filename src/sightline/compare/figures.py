"""The figures of a comparison, in the report's style."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import NullLocator

from ..report.charts import LINES, lines
from ..report.drawing import COLOURS, Drawing, drawing, inline_svg
from .results import ResultSet
from .statistics import mean_of
from .summary import Overall, Standing

MOST_LINES = len(LINES)  # in one figure: the first rules of the suite
AXES = {"tokens": "tokens sampled", "passes": "responses through the model", "seconds": "seconds"}


def differences(
    name: str, title: str, found: Sequence[Standing | Overall], sample: str = "seeds"
) -> Drawing:
    """Each rule's difference from the reference, with its interval and a mark per seed, or task."""
    shown = [standing for standing in found if standing.difference]
    with drawing(5.2, 0.75 + 0.3 * len(shown)) as figure:
        axes = figure.subplots()
        axes.axvline(0, color=COLOURS["ink"], lw=0.8)
        for height, standing in enumerate(shown):
            difference = standing.difference
            assert difference is not None
            each = [100 * value for value in difference.each]
            axes.plot(each, [height] * len(each), "|", ms=7, color=COLOURS["other"])
            tip = f"{standing.rule}: {100 * difference.mean:+.1f} points, {len(each)} {sample}"
            if difference.low is not None and difference.high is not None:
                low, high = 100 * difference.low, 100 * difference.high
                axes.plot([low, high], [height] * 2, lw=2, color=COLOURS["accent"])
                tip += f", 95 % interval {low:+.1f} to {high:+.1f}"
            (dot,) = axes.plot(100 * difference.mean, height, "o", ms=5, color=COLOURS["accent"])
            dot.set_gid(f"tip:{tip}")
        axes.set_yticks(range(len(shown)), [s.label for s in shown], color=COLOURS["ink"])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("held-out accuracy, points above the reference")
        return inline_svg(figure, name, title)


def dose(shares: Mapping[str, float], standings: Sequence[Standing]) -> Drawing | None:
    """The headline: what a rule gains over the reference as visual words get rarer.

    Args:
        shares: per task, how many of the words of a response matter, from 0 to 1.
    """
    per_rule: dict[str, list[tuple[float, Standing]]] = {}
    for standing in standings:
        if standing.difference and standing.task in shares:
            per_rule.setdefault(standing.rule, []).append((shares[standing.task], standing))
    per_rule = {
        rule: sorted(found, key=lambda pair: pair[0])
        for rule, found in list(per_rule.items())[:MOST_LINES]
    }
    if len({share for found in per_rule.values() for share, _ in found}) < 2:
        return None
    with drawing(5.2, 3.0) as figure:
        axes = figure.subplots()
        axes.axhline(0, color=COLOURS["ink"], lw=0.8)
        for index, (rule, found) in enumerate(per_rule.items()):
            colour, dashes = LINES[index % len(LINES)]
            places = [100 * share for share, _ in found]
            known = [standing.difference for _, standing in found if standing.difference]
            axes.plot(places, [100 * d.mean for d in known], color=colour, ls=dashes, label=rule)
            for place, d in zip(places, known, strict=True):
                if d.low is not None and d.high is not None:
                    at = place * (1 + 0.012 * index)  # beside each other, to be told apart
                    axes.vlines(at, 100 * d.low, 100 * d.high, color=colour, lw=0.8)
        axes.set_xscale("log")
        ticks = sorted({100 * share for found in per_rule.values() for share, _ in found})
        axes.set_xticks(ticks, [f"{tick:.0f} %" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("words of a response that matter")
        axes.set_ylabel("points above the reference")
        axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
        return inline_svg(figure, "dose", "Gain over the reference against the share of words")


def curves(
    results: ResultSet,
    task: str,
    standings: Sequence[Standing],
    number: str,
    label: str,
    axis: str = "step",
) -> Drawing | None:
    """A number over training, its mean and interval over seeds, a line for each of the first rules.

    None where nobody has it.
    """
    series = {}
    for standing in standings[:MOST_LINES]:
        cells = results.curves(task, standing.rule, standing.rate).values()
        at = [list(points) for points in zip(*cells, strict=False)]
        at = [points for points in at if all(point[number] is not None for point in points)]
        if at:
            places = [float(np.mean([point[axis] for point in points])) for points in at]
            series[standing.rule] = (
                places,
                [mean_of([point[number] for point in points]) for points in at],
            )
    if not series:
        return None
    return lines(
        f"{number}-by-{axis}-{task}",
        f"{task}: {label} by {AXES.get(axis, axis)}",
        series,
        (AXES.get(axis, axis), label),
        size=(5.2, 2.6),
    )
