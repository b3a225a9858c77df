"""What scored responses say together: are wrong answers less grounded, and can one trust it?"""

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .algorithms import algorithm_class
from .algorithms.base import ViewScores, checked_weights
from .core import sampled_kl
from .evaluate import bootstrap_interval
from .named_views import CONTROL


def summarise(records: Sequence[Mapping[str, Any]], noise_floor: float) -> dict[str, Any]:
    """Counts, mean dependency by verdict, controls and warnings, of the lines of `tokens.jsonl`.

    Means are over responses, of their mean dependency in nats per token; intervals resample
    responses.
    """
    scored = [record for record in records if "dependency" in record]
    means = [fmean(record["dependency"]) for record in scored]
    rewards = [record.get("reward") for record in scored]
    right = [
        m for m, reward in zip(means, rewards, strict=True) if reward is not None and reward > 0
    ]
    wrong = [
        m for m, reward in zip(means, rewards, strict=True) if reward is not None and reward <= 0
    ]
    names = [name for name in _first_views(scored)]
    found = [record["image_tokens"] for record in scored]
    controls = {name: _sizes(scored, name) for name in names if name.startswith(CONTROL)}
    summary = {
        "responses": len(records),
        "scored": len(scored),
        "without_image": len(records) - len(scored),
        "tokens": sum(len(record["tokens"]) for record in records),
        "image_tokens": [min(found), median(found), max(found)] if found else None,
        "respelt": sum(record["respelt"] is not None for record in records),
        "view": next((name for name in names), None),
        "dependency": _mean(means),
        "dependency_right": _mean(right),
        "dependency_wrong": _mean(wrong),
        "effect": effect_size(right, wrong),
        "views": {name: _sizes(scored, name) for name in names if name not in controls},
        "controls": controls,
        "noise_floor": noise_floor,
    }
    return {**summary, "warnings": _warnings(summary)}


def effect_size(
    right: Sequence[float], wrong: Sequence[float], seed: int = 0, draws: int = 2_000
) -> dict[str, Any] | None:
    """Cohen's d, right minus wrong over their pooled standard deviation, with its 95 % interval.

    Returns:
        None unless both have two values, and not all the same ones.
    """
    if min(len(right), len(wrong)) < 2:
        return None
    a, b = (np.asarray(values, dtype=float) for values in (right, wrong))
    found = _cohens_d(a, b)
    if found is None:
        return None
    rng = np.random.default_rng(seed)
    drawn = [_cohens_d(rng.choice(a, a.size), rng.choice(b, b.size)) for _ in range(draws)]
    # a draw of one value only has no effect size
    low, high = np.percentile([d for d in drawn if d is not None], [2.5, 97.5])
    return {"cohens_d": found, "ci95": [float(low), float(high)]}


def credit(records: Sequence[Mapping[str, Any]], name: str) -> list[list[float]]:
    """The token weights an algorithm with its published settings gives all these responses.

    They are one batch, which is what VPPO's scale of a response compares it with.
    """
    algorithm = algorithm_class(name)()
    lengths = [len(record["tokens"]) for record in records]
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    scores = {
        view: ViewScores(_table(records, view, "log_ratio", mask), None)
        for view in algorithm.views()
    }
    weights = checked_weights(algorithm, scores, mask)
    return [row[real].tolist() for row, real in zip(weights, mask, strict=True)]


def summary_lines(found: Mapping[str, Any]) -> list[str]:
    """The summary as a person reads it."""
    lines = [
        f"{found['scored']:,} responses scored, {found['without_image']:,} without an image; "
        f"{found['tokens']:,} tokens"
    ]
    if found["image_tokens"]:
        low, middle, high = found["image_tokens"]
        lines.append(f"image tokens found per response: {low:,} to {high:,}, median {middle:,g}")
    lines.append(
        f"tokens spell another text than was given: {found['respelt']:,} responses (see respelt)"
    )
    for label, key in (("all", ""), ("right", "_right"), ("wrong", "_wrong")):
        if group := found[f"dependency{key}"]:
            low, high = group["ci95"]
            lines.append(
                f"mean dependency on {found['view']}, {label:<5} {group['mean']:.4f} nats per "
                f"token, 95 % interval {low:.4f} to {high:.4f}, {group['n']:,} responses"
            )
    if effect := found["effect"]:
        low, high = effect["ci95"]
        lines.append(
            f"right against wrong: Cohen's d {effect['cohens_d']:+.2f}, 95 % interval {low:+.2f} "
            f"to {high:+.2f}"
        )
    for name, sizes in {**found["views"], **found["controls"]}.items():
        lines.append(
            f"  {name}: mean k3 {sizes['mean_k3']:.4g}, largest |log-ratio| {sizes['largest']:.4g}"
        )
    lines.append(f"noise floor {found['noise_floor']:.2g} nats")
    return lines + [f"WARNING: {warning}" for warning in found["warnings"]]


def _first_views(scored: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return scored[0]["views"] if scored else {}


def _sizes(scored: Sequence[Mapping[str, Any]], name: str) -> dict[str, float]:
    ratios = torch.tensor(
        [r for record in scored for r in record["views"].get(name, {}).get("log_ratio", [])]
    )
    if not len(ratios):
        return {"mean_k3": 0.0, "largest": 0.0}
    return {"mean_k3": float(sampled_kl(ratios).mean()), "largest": float(ratios.abs().max())}


def _mean(values: Sequence[float]) -> dict[str, Any] | None:
    if not values:
        return None
    interval = bootstrap_interval(values, draws=2_000)
    return {"mean": fmean(values), "ci95": list(interval), "n": len(values)}


def _cohens_d(a: np.ndarray, b: np.ndarray) -> float | None:
    one, other = a - a.mean(), b - b.mean()
    squares = float(one @ one + other @ other)
    if squares == 0:
        return None
    return float((a.mean() - b.mean()) / (squares / (a.size + b.size - 2)) ** 0.5)


def _warnings(found: Mapping[str, Any]) -> list[str]:
    said = []
    same = found["controls"].get(CONTROL + "same")
    if same and same["largest"] != 0:
        said.append(
            f"the same image twice differs by {same['largest']:.2g} nats: what lies below it says "
            "nothing"
        )
    for name, sizes in {**found["views"], **found["controls"]}.items():
        if sizes["largest"] == 0 and name != CONTROL + "same":
            said.append(f"view {name!r} changes nothing anywhere")
    if found["dependency"] and found["views"][found["view"]]["largest"] <= found["noise_floor"]:
        said.append("no dependency rises above the noise floor")
    if not found["controls"]:
        said.append("no controls: without --controls one cannot say what the numbers are worth")
    return said


def _table(records: Sequence[Mapping[str, Any]], view: str, part: str, mask: Tensor) -> Tensor:
    """The numbers of all responses under a view side by side; 0 where there are none."""
    table = torch.zeros(mask.shape)
    for row, record in enumerate(records):
        if view in record["views"]:
            values = [0.0 if v is None else v for v in record["views"][view][part]]
            table[row, : len(values)] = torch.tensor(values)
    return table
