"""Reads the files of a run folder. What cannot be read is named and counted, never guessed."""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

LARGEST = 1e100  # no measurement is larger, and sums of such numbers stay finite
Column = list[float | None]  # one value per token; None where there is no finite number


@dataclass(frozen=True)
class Response:
    """One response. Its columns are as long as its tokens; a column that is None has no values.

    Args:
        text: the whole response, shown when there are no tokens.
        dependency: nats, at least 0; None where the measure does not apply to this response.
        views: what each view changed, by table heading, such as ``blind log-ratio``.
        not_scored: why there is no dependency, or empty.
        dropped: names of columns left out because they do not line up with the tokens.
    """

    id: str
    split: str
    step: float | None
    prompt: str
    images: list[str]
    text: str
    gold: str
    reward: float | None
    reward_reason: str
    advantage: float | None
    tokens: list[str]
    dependency: Column | None
    weights: Column | None
    labels: list[str] | None
    views: dict[str, Column]
    not_scored: str
    dropped: list[str]

    @property
    def right(self) -> bool | None:
        """Whether the answer was judged right: by the reason, else by a positive reward."""
        if self.reward_reason:
            return self.reward_reason == "matched"
        return None if self.reward is None else self.reward > 0

    @property
    def finite_dependency(self) -> list[float]:
        return [value for value in self.dependency or [] if value is not None]

    @property
    def mean_dependency(self) -> float | None:
        values = self.finite_dependency
        return fmean(values) if values else None


def number(value: Any) -> float | None:
    """``value`` as a float, or None: truth values, text, NaN and infinity are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= LARGEST else None


def read_object(path: Path, problems: list[str]) -> dict[str, Any]:
    """The object in a JSON file, or {}; a file that is there but unreadable joins ``problems``."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        problems.append(f"{path.name} is not a readable JSON object; nothing of it is shown.")
        return {}
    return content


def read_lines(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    """The objects in a JSONL file; lines that cannot be read join ``problems`` by their number."""
    if not path.is_file():
        return []
    records, bad, line = [], [], b"\n"
    with path.open("rb") as file:
        for index, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if isinstance(record, dict):
                records.append(record)
            else:
                bad.append(index)
    if bad:
        count = "1 line" if len(bad) == 1 else f"{len(bad)} lines"
        shown = ", ".join(map(str, bad[:10])) + (", …" if len(bad) > 10 else "")
        half = "" if line.endswith(b"\n") else "; the last one is half-written"
        problems.append(
            f"{path.name}: {count} could not be read (line {shown}{half}). The rest is shown."
        )
    return records


def read_response(record: dict[str, Any]) -> Response:
    """A record of ``tokens.jsonl``, of any shape, as a response whose columns line up."""
    tokens = [as_text(token) for token in as_list(record.get("tokens"))]
    images = [as_text(image) for image in as_list(record.get("images"))]
    columns, dropped = read_columns(record, len(tokens))
    dependency = columns.pop("dependency", None)
    weights = columns.pop("weights", None)
    labels = record.get("labels")
    if isinstance(labels, list) and len(labels) != len(tokens):
        dropped.append("labels")
    reason = reason_not_scored(tokens, images, dependency, "dependency" in dropped)
    return Response(
        id=as_text(record.get("id")),
        split=as_text(record.get("split")),
        step=number(record.get("step")),
        prompt=as_text(record.get("prompt")),
        images=images,
        text=as_text(record.get("response")),
        gold=as_text(record.get("gold")),
        reward=number(record.get("reward")),
        reward_reason=as_text(record.get("reward_reason")),
        advantage=number(record.get("advantage")),
        tokens=tokens,
        dependency=None if reason else dependency,
        weights=weights,
        labels=(
            [as_text(label) for label in labels]
            if isinstance(labels, list) and "labels" not in dropped
            else None
        ),
        views=columns,
        not_scored=reason,
        dropped=dropped,
    )


def read_columns(record: dict[str, Any], length: int) -> tuple[dict[str, Column], list[str]]:
    """The numbers per token that line up with ``length`` tokens, and the names of the others."""
    raw = {"dependency": record.get("dependency"), "weights": record.get("weights")}
    views = record.get("views")
    for name, scores in views.items() if isinstance(views, dict) else ():
        for key, heading in (("log_ratio", "log-ratio"), ("kl", "KL")):
            raw[f"{name} {heading}"] = scores.get(key) if isinstance(scores, dict) else None
    columns, dropped = {}, []
    for name, values in raw.items():
        if isinstance(values, list) and len(values) == length:
            columns[name] = [number(value) for value in values]
        elif values is not None:
            dropped.append(name)
    return columns, dropped


def reason_not_scored(
    tokens: list[str], images: list[str], dependency: Column | None, misaligned: bool
) -> str:
    """Why a response has no dependency, or an empty string if it has one.

    Without an image the measure does not apply, also where a scorer wrote zeros: n/a is not 0.
    """
    if not tokens:
        return "no tokens"
    if misaligned:
        return "dependency does not line up with the tokens"
    if not images and not any(dependency or []):
        return "no image"
    if dependency is None:
        return "no dependency recorded"
    if all(value is None for value in dependency):
        return "no finite dependency"
    return ""


def as_text(value: Any) -> str:
    return "" if value is None else str(value)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
