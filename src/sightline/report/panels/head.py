"""The head: the held-out result and the facts that identify the run."""

from typing import Any

from .. import formats
from ..figures import interval_figure
from ..records import as_object, number
from ..runs import Run


def head(run: Run) -> dict[str, Any]:
    result, algorithm = run.result, run.algorithm
    before, after = (number(result.get(f"accuracy_{when}")) for when in ("before", "after"))
    rows = {
        when: (share, *interval(result.get(f"accuracy_{when}_ci95")))
        for when, share in (("before", before), ("after", after))
        if share is not None
    }
    low, high = interval(result.get("gain_ci95"))
    seed = run.about.get("seed", result.get("seed"))
    seconds = as_object(result.get("seconds"))
    parameters = [
        f"{name.replace('_', ' ')} {formats.plain(value)}"
        for name, value in algorithm.items()
        if name != "name"
    ]
    parts = [
        f"{n.replace('_', ' ')} {formats.duration(s)}" for n, s in seconds.items() if n != "total"
    ]
    name = algorithm.get("name") or result.get("algorithm")
    where = run.about.get("computed_on")
    facts = [
        ("Model", run.about.get("model"), f"computed on {where}" if where else ""),
        ("Algorithm", name, ", ".join(parameters)),
        ("Steps", number(result.get("steps")), f"seed {formats.plain(seed)}"),
        (
            "AUROC, visual tokens",
            number(result.get("visual_tokens_auroc")),
            "dependency against the oracle labels; 0.5 is chance",
        ),
        (
            "Noise floor, nats",
            number(result.get("noise_floor")),
            "how far scores move in other batches: less says nothing",
        ),
        ("Time", seconds and formats.duration(seconds.get("total")), ", ".join(parts)),
        ("Peak memory, MB", number(result.get("peak_rss_mb")), ""),
    ]
    return {
        "algorithm": name or "",
        "seed": seed,
        "rows": rows,
        "figure": interval_figure(rows) if rows else "",
        "gain": None if before is None or after is None else after - before,
        "gain_low": low,
        "gain_high": high,
        "n_heldout": number(result.get("n_heldout")),
        "facts": [fact for fact in facts if fact[1] not in (None, "", {})],
        "trained": run.about.get("kind") not in ("score", "eval"),
    }


def interval(value: Any) -> tuple[float | None, float | None]:
    """The two ends of an interval, or None twice if it was not measured."""
    low, high = map(number, value) if isinstance(value, list) and len(value) == 2 else (None, None)
    return (None, None) if low is None or high is None else (low, high)
