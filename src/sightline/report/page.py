"""Puts the panels of the report together into one page."""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from . import formats
from .drawing import Drawing
from .panels.anchors import anchors
from .panels.attribution import attribution
from .panels.comparison import comparison
from .panels.control import control, control_problems
from .panels.distribution import distribution
from .panels.estimators import estimators
from .panels.head import head
from .panels.images_read import images_read
from .panels.oracle import oracle
from .panels.position import position
from .panels.responses import SHOWN, responses_panel
from .panels.token_classes import DEFAULT, read_rules, token_classes
from .panels.training import training
from .panels.trajectories import trajectories
from .records import as_object
from .runs import Run, read_run
from .tables import Table

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Page:
    """A report as HTML, and the figures and tables that go into files of their own."""

    html: str
    drawings: list[Drawing]
    tables: list[Table]


def render(folders: Sequence[Path], shown: int = SHOWN, rules: Path = DEFAULT) -> Page:
    """The report of run folders: of the first, and of all beside each other.

    Args:
        shown: responses in the page, at most.
        rules: a file of token classes.
    """
    token_rules = read_rules(rules)
    runs = [read_run(folder) for folder in folders]
    run = runs[0]
    controls = control(run)
    panels = {
        "head": head(run),
        "comparison": comparison(runs),
        "training": training(run),
        "responses": responses_panel(run, shown),
        "distribution": distribution(run),
        "trajectories": trajectories(run),
        "token_classes": token_classes(run, token_rules),
        "anchors": anchors(run),
        "position": position(run),
        "attribution": attribution(run),
        "images_read": images_read(run),
        "control": controls,
        "oracle": oracle(run),
        "estimators": estimators(run),
    }
    script = (HERE / "report.js").read_text(encoding="utf-8")
    html = (
        environment()
        .get_template("template.html")
        .render(
            panels,
            run=run,
            about=run.about,
            problems=problems(runs) + control_problems(run, controls),
            script=Markup(script),  # our own file
            script_hash=Markup(policy_hash(script)),
            **totals(run),
        )
    )
    found = list(pieces(panels))
    return Page(
        html,
        [piece for piece in found if isinstance(piece, Drawing)],
        [piece for piece in found if isinstance(piece, Table) and piece.rows],
    )


def problems(runs: Sequence[Run]) -> list[str]:
    """What could not be read, with the name of the run where there are several."""
    several = len(runs) > 1
    return [f"{run.name}: {p}" if several else p for run in runs for p in run.problems]


def totals(run: Run) -> dict[str, Any]:
    """What head and foot count over all responses."""
    responses = run.responses
    return {
        "views": sorted({name for r in responses for name in r.view_names}),
        "versions": as_object(run.about.get("versions")),
        "not_scored": Counter(r.not_scored for r in responses if r.not_scored),
        "gaps": sum(
            len(r.dependency) - len(r.finite_dependency) for r in responses if r.dependency
        ),
        "dropped": Counter(name for r in responses for name in r.dropped if name != "dependency"),
    }


def pieces(value: Any) -> Iterator[Any]:
    """Every drawing and table inside what the panels returned, in order."""
    if isinstance(value, Drawing | Table):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from pieces(item)
    elif isinstance(value, list):
        for item in value:
            yield from pieces(item)


def policy_hash(script: str) -> str:
    """The hash by which the page's security policy lets this one script run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def environment() -> Environment:
    """Jinja with autoescape on everything; all that the template prints goes through ``clean``."""
    jinja = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else formats.clean(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("counted", "nats", "percent", "plain", "pretty", "shorten", "signed", "visible"):
        jinja.filters[name] = getattr(formats, name)
    return jinja
