"""Charts that several panels share."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from .drawing import COLOURS, Drawing, drawing, inline_svg
from .formats import nats, plain

Interval = tuple[float, float | None, float | None]  # a value and the ends of its interval
LINES = (  # of several lines: colour and dashes, so that colour is not the only sign
    (COLOURS["accent"], "-"),
    (COLOURS["visual"], "--"),
    (COLOURS["answer"], "-."),
    (COLOURS["clamp"], ":"),
    (COLOURS["ink"], (0, (5, 1, 1, 1, 1, 1))),
    (COLOURS["other"], (0, (8, 3))),
)


def bars(
    name: str, description: str, rows: Mapping[str, Interval], label: str, unit: str = ""
) -> Drawing:
    """A horizontal bar for each named value, with its interval as a line."""
    with drawing(5.2, 0.55 + 0.27 * len(rows)) as figure:
        axes = figure.subplots()
        for height, (title, (value, low, high)) in enumerate(rows.items()):
            (bar,) = axes.barh(height, value, height=0.6, color=COLOURS["accent"])
            tip = f"{quiet(title)}: {nats(value)}{unit}"
            if low is not None and high is not None:
                tip += f", 95 % interval {nats(low)} to {nats(high)}"
                axes.plot([low, high], [height, height], lw=1.4, color=COLOURS["ink"])
            bar.set_gid(f"tip:{tip}")
            axes.annotate(
                nats(value),
                (max(value, high or 0.0), height),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axes.set_yticks(range(len(rows)), [quiet(row) for row in rows], color=COLOURS["ink"])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.margins(x=0.12)
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(label)
        return inline_svg(figure, name, description)


def lines(
    name: str,
    description: str,
    series: Mapping[str, tuple[Sequence[float], Sequence[Interval]]],
    labels: tuple[str, str],
    size: tuple[float, float] = (5.2, 2.2),
    legend: bool = True,
) -> Drawing:
    """One line for each named series of places and values, intervals as a band."""
    with drawing(*size) as figure:
        axes = figure.subplots()
        for (title, (places, values)), (colour, dashes) in zip(
            series.items(), cycle(len(series)), strict=True
        ):
            middle = [value for value, _, _ in values]
            axes.plot(places, middle, color=colour, ls=dashes, lw=1.5, label=quiet(title))
            if len(places) == 1:
                axes.plot(places, middle, "o", ms=4, color=colour)
            known = [
                (place, low, high)
                for place, (_, low, high) in zip(places, values, strict=True)
                if low is not None and high is not None
            ]
            if known:
                at, below, above = map(list, zip(*known, strict=True))
                axes.fill_between(at, below, above, color=colour, alpha=0.16, lw=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2))
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        if legend and len(series) > 1:
            axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
        return inline_svg(figure, name, description)


def counts(
    name: str, description: str, groups: Mapping[str, Sequence[float]], label: str
) -> Drawing:
    """Histograms of named groups on shared bins, one below the other; dashed: their means."""
    known = np.concatenate([np.asarray(group, dtype=float) for group in groups.values()])
    edges = np.linspace(min(0.0, known.min()), known.max() or 1.0, 31)
    with drawing(5.2, 0.5 + 1.05 * len(groups)) as figure:
        rows = figure.subplots(len(groups), sharex=True, squeeze=False)[:, 0]
        for axes, (title, group), (colour, _) in zip(
            rows, groups.items(), cycle(len(groups)), strict=True
        ):
            found, _ = np.histogram(group, edges)
            filled = np.flatnonzero(found)
            width = (edges[1] - edges[0]) * 0.88
            drawn = axes.bar(edges[filled], found[filled], width, align="edge", color=colour)
            for bar, index in zip(drawn, filled, strict=True):
                low, high = edges[index : index + 2]
                bar.set_gid(
                    f"tip:{plain(float(low), 3)} to {plain(float(high), 3)}: {found[index]}"
                )
            axes.axvline(float(np.mean(group)), color=COLOURS["ink"], ls="--", lw=1)
            axes.set_title(quiet(title), loc="left", fontsize=9)
            axes.yaxis.set_major_locator(MaxNLocator(3, integer=True, min_n_ticks=2))
        rows[-1].set_xlabel(label)
        return inline_svg(figure, name, description)


def exceedance(
    name: str, description: str, groups: Mapping[str, Sequence[float]], labels: tuple[str, str]
) -> Drawing:
    """For each group the share of its values above each place, both on log axes from 0.001."""
    with drawing(5.2, 2.4) as figure:
        axes = figure.subplots()
        places = np.logspace(-3, 1, 120)
        for (title, group), (colour, dashes) in zip(
            groups.items(), cycle(len(groups)), strict=True
        ):
            if len(group):
                above = len(group) - np.searchsorted(np.sort(group), places, side="right")
                share = np.where(above > 0, above / len(group), np.nan)
                axes.plot(places, share, color=colour, ls=dashes, lw=1.5, label=quiet(title))
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter("{x:g}")
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.legend(frameon=False, fontsize=8, loc="lower left")
        return inline_svg(figure, name, description)


def density(
    name: str,
    description: str,
    points: tuple[Sequence[float], Sequence[float]],
    labels: tuple[str, str],
) -> Drawing:
    """Counts of points on two log axes from 0.0001 to 30 nats; the dashed line is equality."""
    edges = np.logspace(-4, 1.5, 34)
    found, *_ = np.histogram2d(*(np.clip(side, edges[0], edges[-1]) for side in points), bins=edges)
    with drawing(3.6, 3.1) as figure:
        axes = figure.subplots()
        for column, row in np.argwhere(found):
            left, bottom, right, top = map(
                float, (edges[column], edges[row], edges[column + 1], edges[row + 1])
            )
            cell = Rectangle(
                (left, bottom),
                right - left,
                top - bottom,
                color=COLOURS["accent"],
                alpha=0.2 + 0.8 * np.log1p(found[column, row]) / np.log1p(found.max()),
                lw=0,
            )
            axes.add_patch(cell)
            cell.set_gid(f"tip:{int(found[column, row])} tokens")
        axes.plot(edges[[0, -1]], edges[[0, -1]], color=COLOURS["ink"], ls="--", lw=0.8)
        log_axes(axes)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(edges[0], edges[-1])
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        return inline_svg(figure, name, description)


def log_axes(axes: Axes) -> None:
    ticks = [0.0001, 0.01, 1]
    for axis in (axes.xaxis, axes.yaxis):
        axis.axes.set_xscale("log") if axis is axes.xaxis else axis.axes.set_yscale("log")
        axis.set_major_locator(LogLocator(numticks=12))
        axis.set_minor_locator(NullLocator())
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])


def cycle(count: int) -> list[tuple[str, object]]:
    return [LINES[index % len(LINES)] for index in range(count)]


def quiet(text: str) -> str:
    """Untrusted text for a figure: short, and without what does not print."""
    short = text if len(text) <= 40 else text[:39] + "…"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in short)
