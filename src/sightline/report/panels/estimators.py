"""The sampled KL (k3) against the exact KL, where a view recorded both."""

from typing import Any

import numpy as np

from ..charts import density
from ..runs import Run
from ..statistics import sampled_kl, spearman
from ..tables import Table

TOP = 0.1  # of tokens, for the overlap


def estimators(run: Run) -> dict[str, Any]:
    """Rank correlation, overlap of the top tenths and means, for each view with both."""
    views: dict[str, list[tuple[float, float]]] = {}
    for response in run.counted:
        for name in response.view_names:
            ratio, kl = (response.views.get(f"{name} {kind}") for kind in ("log-ratio", "KL"))
            if ratio is not None and kl is not None:
                pairs = zip(sampled_kl(ratio), kl, strict=True)
                views.setdefault(name, []).extend(
                    (a, b) for a, b in pairs if a is not None and b is not None
                )
    rows, figures = [], []
    for name, pairs in views.items():
        if not pairs:
            continue
        sampled, exact = np.array(pairs).T
        top = max(1, round(TOP * len(pairs)))
        best = [set(np.argsort(-side, kind="stable")[:top].tolist()) for side in (sampled, exact)]
        overlap = len(best[0] & best[1]) / top
        rows.append((name, len(pairs), spearman(sampled, exact), overlap,
                     float(sampled.mean()), float(exact.mean())))  # fmt: skip
        figures.append(
            density(
                f"estimators-{len(figures)}",
                f"Sampled against exact KL under the view {name}",
                (exact.tolist(), sampled.tolist()),
                ("exact KL, nats", "sampled KL (k3), nats"),
            )
        )
    if not rows:
        return {}
    header = ["view", "tokens", "spearman", "overlap_top_tenth", "mean_k3", "mean_exact"]
    return {"rows": rows, "figures": figures, "table": Table("estimators", header, rows)}
