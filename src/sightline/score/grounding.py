"""What scored responses say together: are wrong answers less grounded, and can one trust it?"""

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

import torch
from torch import Tensor

from ..algorithms import algorithm_class
from ..algorithms.base import ViewScores, checked_weights
from ..core import sampled_kl
from ..evaluate import bootstrap_interval
from ..right_and_wrong import COUNTED, FEWEST, effect_of, is_right
from .named_views import CONTROL


def summarise(records: Sequence[Mapping[str, Any]], noise_floor: float) -> dict[str, Any]:
    """Counts, mean dependency by verdict, controls and warnings, of the lines of `tokens.jsonl`.

    Means are over responses, of their mean dependency in nats per token; intervals resample
    responses, and there is none for fewer than `FEWEST`. Where splits are `COUNTED`, those of
    others are left out of both.
    """
    scored = [record for record in records if "dependency" in record]
    counted = [record for record in scored if record.get("split") in COUNTED] or scored
    means = [fmean(record["dependency"]) for record in counted]
    judged = [
        is_right(record.get("reward"), record.get("reward_reason") or "") for record in counted
    ]
    right, wrong = (
        [mean for mean, verdict in zip(means, judged, strict=True) if verdict is wanted]
        for wanted in (True, False)
    )
    names = list(_first_views(scored))
    found = [record["image_tokens"] for record in scored]
    controls = {name: _sizes(scored, name) for name in names if name.startswith(CONTROL)}
    summary = {
        "responses": len(records),
        "scored": len(scored),
        "of_other_splits": len(scored) - len(counted),
        "without_image": len(records) - len(scored),
        "tokens": sum(len(record["tokens"]) for record in records),
        "image_tokens": [min(found), median(found), max(found)] if found else None,
        "respelt": sum(record["respelt"] is not None for record in records),
        "view": next((name for name in names), None),
        "dependency": _mean(means),
        "dependency_right": _mean(right),
        "dependency_wrong": _mean(wrong),
        "effect": _effect(right, wrong),
        "views": {name: _sizes(scored, name) for name in names if name not in controls},
        "controls": controls,
        "noise_floor": noise_floor,
    }
    return {**summary, "warnings": _warnings(summary)}


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
    if found["respelt"]:
        lines.append(
            f"the tokens of {found['respelt']:,} responses spell another text than was given: see "
            "respelt in tokens.jsonl"
        )
    if found["of_other_splits"]:
        lines.append(
            f"{found['of_other_splits']:,} of them are of training, or were given to another row's "
            "image: means by verdict leave them out"
        )
    for label, key in (("all", ""), ("right", "_right"), ("wrong", "_wrong")):
        if group := found[f"dependency{key}"]:
            interval = f"too few for an interval (fewer than {FEWEST})"
            if group["ci95"]:
                interval = "95 % interval {:.4f} to {:.4f}".format(*group["ci95"])
            lines.append(
                f"mean dependency on {found['view']}, {label:<5} {group['mean']:.4f} nats per "
                f"token, {interval}, {group['n']:,} response{'' if group['n'] == 1 else 's'}"
            )
    if effect := found["effect"]:
        interval = f"too few for an interval (fewer than {FEWEST} right or wrong)"
        if effect["ci95"]:
            interval = "95 % interval {:+.2f} to {:+.2f}".format(*effect["ci95"])
        lines.append(
            f"right against wrong: Cliff's delta {effect['cliffs_delta']:+.2f}, {interval}"
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


def _effect(right: Sequence[float], wrong: Sequence[float]) -> dict[str, Any] | None:
    effect = effect_of(right, wrong)
    if effect is None:
        return None
    return {"cliffs_delta": effect.delta, "ci95": effect.interval and list(effect.interval)}


def _mean(values: Sequence[float]) -> dict[str, Any] | None:
    if not values:
        return None
    enough = len(values) >= FEWEST
    interval = list(bootstrap_interval(values, draws=2_000)) if enough else None
    return {"mean": fmean(values), "ci95": interval, "n": len(values)}


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
