"""Training curves of one run."""

from typing import Any

from ..figures import curve_figure, smooth
from ..records import number
from ..runs import Run
from ..tables import Table

METRICS = {
    "reward": "Reward",
    "rewards/exact_answer/mean": "Accuracy",
    "rewards/accuracy/mean": "Accuracy",
    "accuracy/mean": "Accuracy",
    "dependency/mean": "Mean dependency, nats",
    "weights/largest": "Largest weight",
    "weights/effective_tokens": "Effective tokens",
    "weights/top10_share": "Weight on the top 10 %",
    "entropy": "Entropy, nats",
    "grad_norm": "Gradient norm",
    "completions/mean_length": "Response length, tokens",
    "completions/clipped_ratio": "Cut off, share",
    "frac_reward_zero_std": "Groups of one reward",
    "clip_ratio/region_mean": "Clipped tokens, share",
    "seconds/scoring": "Scoring time, s",
}


def training(run: Run) -> dict[str, Any]:
    """One small figure for each metric that was logged, and the names of those that were not.

    Empty if none was.
    """
    figures = []
    for key, title in METRICS.items():
        logged = [record for record in run.metrics if key in record]
        points = finite_points(run, key)
        if points:
            steps, values = map(list, zip(*points, strict=True))
            figures.append(
                {
                    "key": key,
                    "title": title,
                    "svg": curve_figure(key, steps, values),
                    "end": smooth(values)[-1],
                    "gaps": len(logged) - len(points),
                }
            )
    keys, drawn = [f["key"] for f in figures], {f["title"] for f in figures}
    # what is called accuracy depends on the rewards: one of its names is enough
    missing: dict[str, str] = {}
    for key, title in METRICS.items():
        if title not in drawn:
            missing.setdefault(title, key)
    rows = [[r.get("step"), *(number(r.get(key)) for key in keys)] for r in run.metrics]
    table = Table("training", ["step", *keys], rows)
    return (
        {}
        if not figures
        else {
            "figures": figures,
            "missing": list(missing.values()),
            "keys": keys,
            "rows": rows,
            "table": table,
        }
    )


def finite_points(run: Run, key: str) -> list[tuple[float, float]]:
    """Step and value of each line of ``metrics.jsonl`` that holds both as finite numbers."""
    points = [(number(r.get("step")), number(r.get(key))) for r in run.metrics]
    return [(step, value) for step, value in points if step is not None and value is not None]
