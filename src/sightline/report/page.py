"""Puts the panels of the report together into one page."""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
from .unfinished import unfinished

HERE = Path(__file__).parent
SCORED = "no response has a dependency"
LEFT_OUT = {  # what would fill a panel that is not there
    "training": "The training curves are left out: metrics.jsonl is missing or holds no step.",
    "responses": "The responses are left out: tokens.jsonl is missing or empty, so there are no "
    "tokens to show.",
    "distribution": f"The distribution is left out: {SCORED}.",
    "trajectories": f"Right and wrong answers are left out: {SCORED}.",
    "token_classes": f"The classes are left out: {SCORED}.",
    "anchors": f"The anchor tokens are left out: {SCORED}.",
    "position": "The place in the response is left out: it needs responses of two tokens with a "
    "dependency.",
    "attribution": "The parts of the image are left out: there is no attribution.jsonl, which "
    "sightline score --attribute-top writes.",
    "images_read": "Which image a token read is left out: no response has a view for each of "
    "several images, which sightline score --views blind,blind:image=0,blind:image=1 writes.",
    "control": "The controls are left out: no response has a view named control:same, "
    "control:blank, control:other or control:seed-1, which sightline score --controls writes.",
    "oracle": "The oracle labels are left out: no scored response has tokens labelled visual "
    "beside others.",
    "estimators": "Sampled against exact KL is left out: no view has both log_ratio and kl, which "
    "sightline score --exact-kl writes.",
}


@dataclass(frozen=True)
class Page:
    """A report as HTML, its figures and tables for files of their own, and its warnings."""

    html: str
    drawings: list[Drawing]
    tables: list[Table]
    warnings: list[str]


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
    warnings = problems(runs) + control_problems(run, controls)
    script = (HERE / "report.js").read_text(encoding="utf-8")
    html = (
        environment()
        .get_template("template.html")
        .render(
            panels,
            run=run,
            about=run.about,
            problems=warnings,
            filled=[name for name, panel in panels.items() if panel and name != "head"],
            left_out=left_out(run, panels),
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
        warnings,
    )


def left_out(run: Run, panels: Mapping[str, Any]) -> list[str]:
    """Why a panel is not there, for each that this kind of run could have."""
    return [
        reason
        for name, reason in LEFT_OUT.items()
        if not panels[name] and (name != "training" or run.kind == "train")
    ]


def problems(runs: Sequence[Run]) -> list[str]:
    """Which runs are not finished, and what could not be read; by name where there are several."""
    found = [(run, problem) for run in runs if (problem := unfinished(run))]
    found += [(run, problem) for run in runs for problem in run.problems]
    return [f"{run.name}: {text}" if len(runs) > 1 else text for run, text in found]


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


def printed(value: Any) -> Any:
    """What the template prints: drawings for both widths of the page, text without what harms."""
    if isinstance(value, Drawing):
        return value.for_page()
    return value if isinstance(value, Markup) else formats.clean(str(value))


@cache
def environment() -> Environment:
    """Jinja with autoescape on everything; all that the template prints goes through ``clean``."""
    jinja = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printed,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("counted", "nats", "percent", "plain", "pretty", "shorten", "signed", "visible"):
        jinja.filters[name] = getattr(formats, name)
    return jinja
