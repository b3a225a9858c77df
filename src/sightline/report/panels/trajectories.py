"""Mean dependency of each response, right against wrong answers."""

from typing import Any

import numpy as np

from ...right_and_wrong import FEWEST, effect_of
from ..charts import counts
from ..runs import Run
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
    effect = effect_of(groups.get("right", []), groups.get("wrong", []))
    low, high = (effect and effect.interval) or (None, None)
    return {
        "figure": counts(
            "trajectories",
            "Mean dependency of responses, by verdict",
            {f"{name}, n = {len(group)}": group for name, group in groups.items()},
            "mean dependency of a response, nats",
        ),
        "delta": effect and effect.delta,
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
