"""The control row: what dependency is when the image does not differ, or differs in full."""

from typing import Any

import numpy as np

from ..records import CONTROL, Response, as_object
from ..runs import Run
from ..statistics import mean_interval, sampled_kl
from ..tables import Table

MEANING = {
    "same": "the same image twice: must be 0",
    "blank": "a blank image",
    "other": "the image of another row",
    "seed": "another seed of a random view",
}


def control(run: Run) -> dict[str, Any]:
    """Mean sampled KL under each control, beside the dependency of the same responses."""
    names = sorted({name for response in run.scored for name in response.controls})
    rows = []
    for name in names:
        having = [r for r in run.scored if r.controls.get(name)]
        columns = [nats(r, name) for r in having]
        values = [value for column in columns for value in column]
        if not values:
            continue
        sums, counts = [sum(column) for column in columns], [len(column) for column in columns]
        meaning, redrawn = MEANING.get(name.split("-")[0], ""), again(run, name)
        if redrawn:
            meaning = f"another seed of {redrawn}: must be near {redrawn} itself"
        beside = [value for r in having for value in (of_view(r, redrawn) or r.finite_dependency)]
        rows.append(
            (name, meaning, len(values), float(np.mean(values)), *mean_interval(sums, counts),
             max(values), float(np.mean(beside)) if beside else None)
        )  # fmt: skip
    header = ["control", "meaning", "tokens", "mean", "low", "high", "largest", "dependency"]
    return {"rows": rows, "table": Table("control", header, rows)} if rows else {}


def again(run: Run, name: str) -> str:
    """The view that a control draws again with another seed: the one of the same settings."""
    views = as_object(run.about.get("views"))
    settings = views.get(CONTROL + name) if name.startswith("seed") else None
    found = (n for n, made in views.items() if not n.startswith(CONTROL) and made == settings)
    return next(found, "")


def of_view(response: Response, name: str) -> list[float]:
    """Sampled KL of each token under a view; none if it has no log-ratio."""
    column = response.views.get(f"{name} log-ratio") if name else None
    return [value for value in sampled_kl(column or []) if value is not None]


def nats(response: Response, name: str) -> list[float]:
    """Sampled KL of each token under a control, or the exact KL where that alone is recorded."""
    columns = response.controls[name]
    column = sampled_kl(columns["log_ratio"]) if "log_ratio" in columns else columns["kl"]
    return [value for value in column if value is not None]


def control_problems(run: Run, panel: dict[str, Any]) -> list[str]:
    """The warnings of the head: controls missing, or ``control:same`` other than 0."""
    if not run.scored:
        return []
    largest = {row[0]: row[6] for row in panel.get("rows", ())}
    if "same" not in largest:
        return [
            "There is no control row (the same image twice, which must give 0). Without it nobody "
            "can tell dependency from noise of the scorer."
        ]
    if largest["same"] != 0:
        return [
            f"The same image twice gives up to {largest['same']:.3g} nats, and not 0: dependencies "
            "of that size are noise of the scorer."
        ]
    return []
