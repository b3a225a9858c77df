"""The numbers behind the figures of the head, training and distribution, and these figures."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter

from ..core.k3 import LARGEST as CLAMP  # nats; the papers' histograms end here (PGPO's Fig. 2a)
from .drawing import COLOURS, Drawing, drawing, inline_svg
from .formats import counted

BIN_EDGES = np.arange(51) / 5  # 0, 0.2, ... 10; a quotient, because 3 * 0.2 > 0.6


def histogram(dependency: Sequence[float]) -> list[int]:
    """Tokens in each of the 50 bins of 0.2 nats, then those at or above the clamp of 10."""
    values = np.clip(np.asarray(dependency, dtype=float), 0.0, None)
    below = values[values < CLAMP]
    return [*np.histogram(below, BIN_EDGES)[0].tolist(), len(values) - len(below)]


def share_held(dependency: Sequence[float], percent: int) -> float | None:
    """Share of the total dependency held by the top ``percent`` of tokens, rounded up.

    None if there is no dependency to share out.
    """
    values = sorted(dependency, reverse=True)
    total = sum(values)
    count = -(-percent * len(values) // 100)  # in integers: ceil(0.07 * 100) is 8
    return sum(values[:count]) / total if total > 0 else None


def smooth(values: Sequence[float]) -> list[float]:
    """Centred mean over a tenth of the values, or the values themselves while they are few."""
    if len(values) < 20:
        return list(values)
    half = len(values) // 20
    return [
        float(np.mean(values[max(0, index - half) : index + half + 1]))
        for index in range(len(values))
    ]


def curve_figure(name: str, steps: Sequence[float], values: Sequence[float]) -> Drawing:
    """One metric over training: every logged step thin, their running mean thick."""
    with drawing(2.2, 1.25) as figure:
        axes = figure.subplots()
        mean = smooth(values)
        axes.plot(steps, values, color=COLOURS["accent"], lw=0.7, alpha=0.5)
        axes.plot(steps, mean, color=COLOURS["accent"], lw=1.5)
        axes.plot(steps[-1:], mean[-1:], "o", ms=4, color=COLOURS["accent"], clip_on=False)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2))
        return inline_svg(figure, name, f"{name} over {counted(len(values), 'logged step')}")


def interval_figure(rows: Mapping[str, tuple[float, float | None, float | None]]) -> Drawing:
    """A dot and a 95 % interval for each named share, from 0 to 100 %."""
    with drawing(3.4, 0.42 + 0.26 * len(rows)) as figure:
        axes = figure.subplots()
        for height, (name, (share, low, high)) in enumerate(rows.items()):
            tip = f"{name}: {share:.1%}"
            if low is not None and high is not None:
                tip += f", 95 % interval {low:.1%} to {high:.1%}"
                axes.plot([low, high], [height, height], lw=2, color=COLOURS["accent"], alpha=0.55)
            axes.plot(share, height, "o", ms=6, color=COLOURS["accent"], gid=f"tip:{tip}")
        axes.set_yticks(range(len(rows)), list(rows), color=COLOURS["ink"])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        return inline_svg(figure, "heldout-accuracy", "Held-out accuracy with 95 % intervals")


def histogram_figure(groups: Mapping[str, Sequence[float]]) -> Drawing:
    """Token counts over dependency on a log axis, one row of bars for each named group."""
    counts = {name: histogram(dependency) for name, dependency in groups.items()}
    with drawing(5.6, 0.6 + 1.15 * max(len(groups), 1.8)) as figure:
        rows = figure.subplots(len(groups), sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, name in zip(rows, groups, strict=True):
            draw_bars(axes, counts[name], COLOURS.get(name, COLOURS["accent"]))
            if len(groups) > 1:
                axes.set_title(
                    f"{name}, {counted(len(groups[name]), 'token')}", loc="left", fontsize=9
                )
        rows[0].set_yscale("log")
        rows[0].set_ylim(0.7, 1.4 * max(max(row) for row in counts.values()))
        rows[0].yaxis.set_major_formatter("{x:,.0f}")
        rows[0].yaxis.set_major_locator(LogLocator(numticks=12))
        rows[0].yaxis.set_minor_locator(NullLocator())
        rows[-1].set_xlim(-0.1, CLAMP + 0.5)
        rows[-1].set_xticks(range(0, 11, 2), ["0", "2", "4", "6", "8", "≥ 10"])
        rows[-1].set_xlabel("dependency, nats")
        return inline_svg(figure, "histogram", "How many tokens have which dependency")


def draw_bars(axes: Axes, counts: Sequence[int], colour: str) -> None:
    """Bars with their counts as titles; the bar at the clamp differs in colour and hatching."""
    *below, clamped = counts
    filled = [index for index, count in enumerate(below) if count]
    bars = axes.bar(
        BIN_EDGES[filled], [below[index] for index in filled], 0.17, align="edge", color=colour
    )
    for bar, index in zip(bars, filled, strict=True):
        low, high = BIN_EDGES[index : index + 2]
        bar.set_gid(f"tip:{low:.1f} to {high:.1f} nats: {below[index]:,}")
    if clamped:
        (bar,) = axes.bar(CLAMP, clamped, 0.34, align="edge", fill=False, hatch="//////")
        bar.set_edgecolor(COLOURS["clamp"])
        bar.set_gid(f"tip:{CLAMP:.0f} nats or more: {clamped:,}")


def share_figure(shares: Mapping[int, float]) -> Drawing:
    """Bars of the share of all dependency that the top so many per cent of tokens hold."""
    with drawing(3.4, 1.75) as figure:
        axes = figure.subplots()
        names = [f"top {percent} %" for percent in shares]
        for name, share in zip(names, shares.values(), strict=True):
            (bar,) = axes.barh(name, share, height=0.62, color=COLOURS["accent"])
            bar.set_gid(f"tip:{name} of tokens: {share:.2%}")
            text = f"{share * 100:.0f} %"
            axes.annotate(text, (share, name), (4, 0), textcoords="offset points", va="center")
        axes.invert_yaxis()
        axes.set_xlim(0, 1.12)
        axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        axes.tick_params("y", labelcolor=COLOURS["ink"])
        axes.grid(visible=False)
        axes.set_xlabel("share of all dependency")
        return inline_svg(figure, "share", "Share of all dependency held by the top tokens")
