"""Mean dependency of each response, right against wrong answers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..charts import counts
from ..runs import Run
from ..statistics import FEWEST, auroc, bootstrap, cliffs_delta
from ..tables import Table


def trajectories(run: Run) -> dict[str, Any]:
    """The two distributions and Cliff's delta, right against wrong, with its interval."""
    means = [(r.right, mean) for r in run.counted if (mean := r.mean_dependency) is not None]
    groups = {
        name: [mean for right, mean in means if right is verdict]
        for name, verdict in (("right", True), ("wrong", False), ("not judged", None))
    }
    groups = {name: group for name, group in groups.items() if group}
    if not groups:
        return {}
    delta, low, high = effect([(right, mean) for right, mean in means if right is not None])
    return {
        "figure": counts(
            "trajectories",
            "Mean dependency of responses, by verdict",
            {f"{name}, n = {len(group)}": group for name, group in groups.items()},
            "mean dependency of a response, nats",
        ),
        "delta": delta,
        "fewest": FEWEST,
        "low": low,
        "high": high,
        "means": {name: (len(group), float(np.mean(group))) for name, group in groups.items()},
        "table": Table(
            "trajectories",
            ["id", "split", "step", "right", "tokens", "mean_dependency", "reward", "advantage"],
            [
                (
                    r.id,
                    r.split,
                    r.step,
                    r.right,
                    len(r.tokens),
                    r.mean_dependency,
                    r.reward,
                    r.advantage,
                )
                for r in run.responses
            ],
        ),
    }


def effect(
    judged: Sequence[tuple[bool, float]],
) -> tuple[float | None, float | None, float | None]:
    """Cliff's delta of means by verdict, right against wrong, and its interval unless too few."""
    right = np.array([verdict for verdict, _ in judged], dtype=bool)
    values = np.array([mean for _, mean in judged], dtype=float)
    delta = cliffs_delta(values[right], values[~right])
    if delta is None or min(right.sum(), (~right).sum()) < FEWEST:
        return delta, None, None

    def of_draw(weights: Any) -> float | None:
        area = auroc(values, right, weights)
        return None if area is None else 2 * area - 1

    return delta, *bootstrap(of_draw, len(judged))
