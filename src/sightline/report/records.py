"""Reads the files of a run folder. What cannot be read is named and counted, never guessed."""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ..right_and_wrong import COUNTED, is_right

CONTROL = "control:"  # begins the names of views that test the measure, not the response
LARGEST = 1e100  # no measurement is larger, and sums of such numbers stay finite
Column = list[float | None]  # one value per token; None where there is no finite number


@dataclass(frozen=True)
class Response:
    """One response. Its columns are as long as its tokens; a column that is None has no values.

    Args:
        text: the whole response, shown when there are no tokens.
        dependency: nats, at least 0; None where the measure does not apply to this response.
        credit: the weight of each token under each method that was recorded, such as ``pgpo``.
        views: what each view changed, by table heading, such as ``blind log-ratio``.
        view_names: the views of this response, controls left out.
        view_images: pictures of what a view showed, where the record names them.
        controls: the columns ``log_ratio`` and ``kl`` of each view named ``control:...``, by the
            rest of its name.
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
    credit: dict[str, Column]
    labels: list[str] | None
    views: dict[str, Column]
    view_names: list[str]
    view_images: dict[str, list[str]]
    controls: dict[str, dict[str, Column]]
    not_scored: str
    dropped: list[str]

    @property
    def right(self) -> bool | None:
        """Whether the answer was judged right."""
        return is_right(self.reward, self.reward_reason)

    @property
    def of_counted_split(self) -> bool:
        return self.split in COUNTED

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
    views = {as_text(n): as_object(v) for n, v in as_object(record.get("views")).items()}
    shown = {name: view for name, view in views.items() if not name.startswith(CONTROL)}
    columns, dropped = read_columns(record, shown, len(tokens))
    dependency = columns.pop("dependency", None)
    weights = columns.pop("weights", None)
    credit = {name: columns.pop(f"credit {name}") for name in as_object(record.get("credit"))
              if f"credit {name}" in columns}  # fmt: skip
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
        credit=credit,
        labels=(
            [as_text(label) for label in labels]
            if isinstance(labels, list) and "labels" not in dropped
            else None
        ),
        views=columns,
        view_names=list(shown),
        view_images={
            name: [as_text(image) for image in as_list(view.get("images"))]
            for name, view in shown.items()
        },
        controls={
            name.removeprefix(CONTROL): {
                key: read_column(view[key])
                for key in ("log_ratio", "kl")
                if isinstance(view.get(key), list) and len(view[key]) == len(tokens)
            }
            for name, view in views.items()
            if name.startswith(CONTROL)
        },
        not_scored=reason,
        dropped=dropped,
    )


def read_columns(
    record: dict[str, Any], views: dict[str, dict[str, Any]], length: int
) -> tuple[dict[str, Column], list[str]]:
    """The numbers per token that line up with ``length`` tokens, and the names of the others."""
    raw = {"dependency": record.get("dependency"), "weights": record.get("weights")}
    for name, values in as_object(record.get("credit")).items():
        raw[f"credit {name}"] = values
    for name, scores in views.items():
        for key, heading in (("log_ratio", "log-ratio"), ("kl", "KL")):
            raw[f"{name} {heading}"] = scores.get(key)
    columns, dropped = {}, []
    for name, values in raw.items():
        if isinstance(values, list) and len(values) == length:
            columns[name] = read_column(values)
        elif values is not None:
            dropped.append(name)
    return columns, dropped


def read_column(values: list[Any]) -> Column:
    return [number(value) for value in values]


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


def as_object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
