"""Puts the panels of the report together: what is shown, in which order, in which words."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from statistics import fmean, median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from . import formats
from .figures import (
    CLAMP,
    curve_figure,
    histogram_figure,
    interval_figure,
    share_figure,
    share_held,
    smooth,
)
from .records import Column, Response, number, read_lines, read_object, read_response
from .thumbnails import thumbnail

FILES = "run.json", "result.json", "metrics.jsonl", "tokens.jsonl", "samples.jsonl"
SHOWN = 12  # responses
FOLD, CUT = 400, 4_000  # tokens of one response before the rest folds, and before it is left out
TINT_RANGE = 0.01, 10.0  # nats; fixed, so that the colours of two reports mean the same
PERCENTS = 5, 10, 20, 40
LABELS = "visual", "answer", "other"
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
    "seconds/scoring": "Scoring time, s",
}


def render(run_dir: Path) -> str:
    """The report of a run folder as one HTML page."""
    files = [run_dir / name for name in FILES]
    if not any(file.is_file() for file in files):
        raise FileNotFoundError(f"{run_dir} is no run folder: it has none of {', '.join(FILES)}")
    problems: list[str] = []
    run, result = (read_object(file, problems) for file in files[:2])
    metrics, records, samples = (read_lines(file, problems) for file in files[2:])
    responses = [
        read_response(record) for record in records or samples
    ]  # samples: of an evaluation
    algorithm = as_object(run.get("algorithm"))
    threshold, min_range = gate(algorithm)
    template = environment().get_template("template.html")
    return template.render(
        head=head(run, result, algorithm),
        views=sorted({heading.rsplit(" ", 1)[0] for r in responses for heading in r.views}),
        training=training(metrics),
        cards={
            title: [card(run_dir, response, threshold, min_range) for response in chosen]
            for title, chosen in choose(responses).items()
        },
        responses=responses,
        threshold=threshold,
        clamp=CLAMP,
        labelled=any(r.labels for r in responses),
        distribution=distribution(responses),
        run=run,
        versions=as_object(run.get("versions")),
        not_scored=Counter(r.not_scored for r in responses if r.not_scored),
        gaps=sum(len(r.dependency) - len(r.finite_dependency) for r in responses if r.dependency),
        dropped=Counter(name for r in responses for name in r.dropped if name != "dependency"),
        problems=problems,
    )


def head(
    run: Mapping[str, Any], result: Mapping[str, Any], algorithm: Mapping[str, Any]
) -> dict[str, Any]:
    """The held-out result and the facts that identify the run."""
    before, after = (number(result.get(f"accuracy_{when}")) for when in ("before", "after"))
    rows = {
        when: (share, *interval(result.get(f"accuracy_{when}_ci95")))
        for when, share in (("before", before), ("after", after))
        if share is not None
    }
    low, high = interval(result.get("gain_ci95"))
    seed = run.get("seed", result.get("seed"))
    seconds = as_object(result.get("seconds"))
    parameters = [
        f"{name.replace('_', ' ')} {formats.plain(value)}"
        for name, value in algorithm.items()
        if name != "name"
    ]
    parts = [
        f"{n.replace('_', ' ')} {formats.duration(s)}" for n, s in seconds.items() if n != "total"
    ]
    return {
        "algorithm": algorithm.get("name") or result.get("algorithm") or "",
        "seed": seed,
        "rows": rows,
        "figure": interval_figure(rows) if rows else "",
        "gain": None if before is None or after is None else after - before,
        "gain_low": low,
        "gain_high": high,
        "n_heldout": number(result.get("n_heldout")),
        "facts": [
            ("Algorithm", algorithm.get("name") or result.get("algorithm"), ", ".join(parameters)),
            ("Steps", number(result.get("steps")), f"seed {formats.plain(seed)}"),
            (
                "AUROC, visual tokens",
                number(result.get("visual_tokens_auroc")),
                "dependency against the oracle labels; 0.5 is chance",
            ),
            ("Time", formats.duration(seconds.get("total")), ", ".join(parts)),
            ("Peak memory, MB", number(result.get("peak_rss_mb")), ""),
        ],
    }


def training(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One small figure for each metric that was logged, and the names of those that were not."""
    figures, missing = [], []
    for key, title in METRICS.items():
        logged = [record for record in metrics if key in record]
        points = [(number(r.get("step")), number(r[key])) for r in logged]
        finite = [(step, value) for step, value in points if None not in (step, value)]
        if finite:
            steps, values = map(list, zip(*finite, strict=True))
            figures.append(
                {
                    "title": title,
                    "svg": curve_figure(key, steps, values),
                    "end": smooth(values)[-1],
                    "gaps": len(logged) - len(finite),
                }
            )
        else:
            missing.append(key)
    keys = [key for key in METRICS if key not in missing]
    rows = [[record.get("step"), *(number(record.get(key)) for key in keys)] for record in metrics]
    return {"figures": figures, "missing": missing, "keys": keys, "rows": rows}


def choose(responses: Sequence[Response], count: int = SHOWN) -> dict[str, list[Response]]:
    """Right, wrong and unjudged responses in equal parts, each spread over mean dependency.

    Held-out responses come before training ones and later steps before earlier ones; a further
    step is drawn from only while there are fewer than ``count`` responses.
    """

    def age(response: Response) -> tuple[bool, float]:
        return response.split != "heldout", -(response.step or 0.0)

    pool: list[Response] = []
    for _, group in groupby(sorted(responses, key=age), key=age):
        if len(pool) < count:
            pool.extend(group)
    judged = {
        "Right answers": [r for r in pool if r.right],
        "Wrong answers": [r for r in pool if r.right is False],
        "Answers not judged": [r for r in pool if r.right is None],
    }
    taken = dict.fromkeys(judged, 0)
    while sum(taken.values()) < min(count, len(pool)):
        for title, group in judged.items():
            if taken[title] < len(group) and sum(taken.values()) < count:
                taken[title] += 1
    return {title: spread(judged[title], n) for title, n in taken.items() if n}


def spread(responses: Sequence[Response], count: int) -> list[Response]:
    """``count`` responses at equal steps of rank, from most to least dependent on the image.

    Responses without a score come last, and only when the others do not suffice.
    """
    scored = [r for r in responses if r.mean_dependency is not None]
    ranked = sorted(scored, key=lambda r: -(r.mean_dependency or 0))
    if len(ranked) < count:
        ranked += [r for r in responses if r.mean_dependency is None][: count - len(ranked)]
    last = len(ranked) - 1
    return [ranked[index * last // max(count - 1, 1)] for index in range(count)]


def card(run_dir: Path, response: Response, threshold: float, min_range: float) -> dict[str, Any]:
    """A response with its pictures and, for each token, how it is drawn and what it measured."""
    columns: dict[str, Column | None] = {"dependency": response.dependency, **response.views}
    if response.dependency is None:
        columns |= dict.fromkeys(response.views)  # an n/a row has no log-ratios either
    if response.weights:
        columns["weight"] = response.weights
    above = above_threshold(response.dependency or [], threshold, min_range)
    tokens = []
    for index, text in enumerate(response.tokens[:CUT]):
        values = {name: column[index] if column else None for name, column in columns.items()}
        label = response.labels[index] if response.labels else ""
        core = text.lstrip(" ") or text
        tokens.append(
            {
                "text": text,
                "space": text[: len(text) - len(core)],  # left untinted, so that it reads as prose
                "core": core,
                "values": values,
                "label": label,
                "above": response.dependency is not None and above[index],
                "visual": label == "visual",
                "tint": tint(values["dependency"]),
            }
        )
    return {
        "response": response,
        "pictures": [thumbnail(run_dir, name) for name in response.images],
        "columns": list(columns),
        "tokens": tokens,
        "fold": FOLD,
        "left_out": max(0, len(response.tokens) - CUT),
    }


def gate(algorithm: Mapping[str, Any]) -> tuple[float, float]:
    """The run's own threshold and least range if it ran PGPO, else PGPO's published ones."""
    settings = algorithm if algorithm.get("name") == "pgpo" else {}
    threshold, min_range = number(settings.get("threshold")), number(settings.get("min_range"))
    return 0.4 if threshold is None else threshold, 1e-6 if min_range is None else min_range


def above_threshold(dependency: Column, threshold: float, min_range: float = 1e-6) -> list[bool]:
    """PGPO's gate: ``(s - min s) / (max s - min s) >= threshold``, ``s = log(1 + dependency)``.

    PGPO (arXiv:2604.01840), eqs. 4-6. No token passes in a response whose ``s`` are all equal.
    """
    scores = [None if value is None else math.log1p(max(value, 0.0)) for value in dependency]
    known = [score for score in scores if score is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    if high - low <= min_range:
        return [False] * len(scores)
    return [score is not None and (score - low) / (high - low) >= threshold for score in scores]


def tint(dependency: float | None) -> float | None:
    """Where a dependency lies on the log colour scale, from 0 (no tint) to 1; None if n/a."""
    if dependency is None:
        return None
    low, high = TINT_RANGE
    return math.log(min(max(dependency, low), high) / low) / math.log(high / low)


def distribution(responses: Sequence[Response]) -> dict[str, Any]:
    """Token counts and shares over the held-out responses, or over all if none is held out."""
    scored = [r for r in responses if r.dependency is not None]
    heldout = [r for r in scored if r.split == "heldout"]
    counted = heldout or scored
    values = [value for r in counted for value in r.finite_dependency]
    if not values:
        return {}
    groups: dict[str, list[float]] = {name: [] for name in (*LABELS, "not labelled")}
    for response in counted:
        labels = response.labels or [""] * len(response.tokens)
        for label, value in zip(labels, response.dependency or [], strict=True):
            if value is not None:
                groups[label if label in LABELS else "not labelled"].append(value)
    groups = {name: group for name, group in groups.items() if group}
    if groups.keys() == {"not labelled"}:
        groups = {"all": values}
    total = sum(values)
    shares = {p: share for p in PERCENTS if (share := share_held(values, p)) is not None}
    return {
        "n_tokens": len(values),
        "n_responses": len(counted),
        "n_others": len(scored) - len(counted),
        "heldout": bool(heldout),
        "histogram": histogram_figure(groups),
        "share": share_figure(shares) if shares else "",
        "rows": [
            (name, len(group), median(group), fmean(group), sum(group) / total if total else None)
            for name, group in groups.items()
        ],
    }


@cache
def environment() -> Environment:
    """Jinja with autoescape on everything; all that the template prints goes through ``clean``."""
    jinja = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else formats.clean(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("counted", "percent", "plain", "pretty", "shorten", "signed", "visible"):
        jinja.filters[name] = getattr(formats, name)
    return jinja


def interval(value: Any) -> tuple[float | None, float | None]:
    """The two ends of an interval, or None twice if it was not measured."""
    low, high = map(number, value) if isinstance(value, list) and len(value) == 2 else (None, None)
    return (None, None) if low is None or high is None else (low, high)


def as_object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
