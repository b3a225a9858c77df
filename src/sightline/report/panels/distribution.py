"""How dependency is spread over tokens, and what the top ones hold of it."""

from statistics import fmean, median
from typing import Any

from ..figures import CLAMP, histogram_figure, share_figure, share_held
from ..runs import Run
from ..tables import Table

PERCENTS = 5, 10, 20, 40
LABELS = "visual", "answer", "other"


def distribution(run: Run) -> dict[str, Any]:
    """Token counts and shares over the held-out responses, or over all if none is held out."""
    values = [value for r in run.counted for value in r.finite_dependency]
    if not values:
        return {}
    groups: dict[str, list[float]] = {name: [] for name in (*LABELS, "not labelled")}
    for response in run.counted:
        labels = response.labels or [""] * len(response.tokens)
        for label, value in zip(labels, response.dependency or [], strict=True):
            if value is not None:
                groups[label if label in LABELS else "not labelled"].append(value)
    groups = {name: group for name, group in groups.items() if group}
    if groups.keys() == {"not labelled"}:
        groups = {"all": values}
    total = sum(values)
    shares = {p: share for p in PERCENTS if (share := share_held(values, p)) is not None}
    rows = [
        (name, len(group), median(group), fmean(group), sum(group) / total if total else None)
        for name, group in groups.items()
    ]
    return {
        "n_tokens": len(values),
        "n_responses": len(run.counted),
        "n_others": len(run.scored) - len(run.counted),
        "heldout": run.counted[0].split == "heldout",
        "clamp": CLAMP,
        "histogram": histogram_figure(groups),
        "share": share_figure(shares) if shares else "",
        "rows": rows,
        "tables": [
            Table("dependency_by_label", ["tokens", "count", "median", "mean", "share"], rows),
            Table("share_held", ["top_percent", "share"], list(shares.items())),
        ],
    }
