"""Figures in one style: inline in the page, and as files in paper size.

Figures are drawn in the colours of the light page. In the SVG each colour becomes a CSS variable
of the same name, so that one drawing follows the reader's light or dark mode. Exact values are
``<title>`` elements, which browsers show on hover.
"""

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure

COLOURS = {  # also in style.css
    "ink": "#211f1c",
    "muted": "#6e6960",
    "rule": "#d9d4ca",
    "accent": "#2b6a99",
    "clamp": "#b3261e",
    "visual": "#c2570c",
    "answer": "#1b7f79",
    "other": "#857f75",
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "text.color": COLOURS["ink"],
    "axes.edgecolor": COLOURS["rule"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": COLOURS["rule"],
    "grid.linewidth": 0.6,
    "xtick.color": COLOURS["rule"],
    "ytick.color": COLOURS["rule"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["muted"],
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "hatch.linewidth": 0.8,
}
NOTHING: dict[Any, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
FORMATS: dict[str, dict[Any, Any]] = {  # metadata left out: dates and versions change the bytes
    "svg": NOTHING,
    "pdf": dict.fromkeys(("CreationDate", "Creator", "Producer")),
    "png": {"Software": None},
}


NARROW = {3.0: 1.6, 3.6: None}  # inches on a phone, of figures up to such a width; others: PHONE
PHONE = 3.4


class Drawing(Markup):
    """The SVG of a figure as the page takes it, with the figure for other formats.

    ``narrow`` is the same figure drawn anew for a phone, where the wide one would shrink until its
    text cannot be read; empty where the wide one is narrow enough.
    """

    name: str
    figure: Figure
    narrow: Markup

    def for_page(self) -> Markup:
        """Both, of which the stylesheet shows one."""
        return Markup(self) + self.narrow


@contextmanager
def style() -> Iterator[None]:
    """Our style, whatever a matplotlibrc says: the same input gives the same bytes."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches; what is drawn and saved inside has our style."""
    with style():
        yield Figure(figsize=(width, height), layout="constrained")


def inline_svg(figure: Figure, name: str, description: str) -> Drawing:
    """The figure as an SVG element that takes its colours, width and font from the page."""
    width, height = figure.get_size_inches()
    small = next((small for limit, small in NARROW.items() if width <= limit), PHONE)
    drawn = Drawing(as_element(figure, name, description, "wide" if small else ""))
    drawn.name, drawn.figure, drawn.narrow = name, figure, Markup("")
    if small:
        figure.set_size_inches(small, height)
        drawn.narrow = as_element(figure, f"{name}-narrow", description, "narrow")
        figure.set_size_inches(width, height)
    return drawn


def as_element(figure: Figure, name: str, description: str, kind: str) -> Markup:
    matplotlib.rcParams["svg.hashsalt"] = name  # ids differ between the figures of one page
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata=NOTHING)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<defs>\s*<style.*?</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'<g id="tip:([^"]*)">', r"<g><title>\1</title>", svg)
    used = set(re.findall(r"(?:url\(|href=\")#(\w+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda id: id[0] if id[1] in used else "", svg)
    svg = re.sub(r"font: |font-family: [^;\"]*;?", "", svg)
    for colour, value in COLOURS.items():
        svg = svg.replace(value, f"var(--{colour})")
    label = f'<svg role="img" aria-label="{escape(description)}"'
    label += f' class="{kind}"' if kind else ""
    return Markup(re.sub(r'^<svg (.*?)width="\S+" height="\S+"', rf"{label} \1", svg))


def save_drawings(drawings: Iterable[Drawing], folder: Path) -> None:
    """Each figure as SVG, PDF and PNG on white, in the size it was drawn for."""
    folder.mkdir(parents=True, exist_ok=True)
    for drawn in drawings:
        name = re.sub(r"[^A-Za-z0-9.-]+", "-", drawn.name)
        with style():
            matplotlib.rcParams["svg.hashsalt"] = name
            for ending, metadata in FORMATS.items():
                path = folder / f"{name}.{ending}"
                drawn.figure.savefig(path, dpi=200, metadata=metadata)
