"""Column names and prompts as people write them → the one form that the trainer takes.

TRL's: `prompt`, chat messages or a string, `image` or `images`, the gold in `solution` or any
column. EasyR1's: `problem`, a text with a literal `<image>` for each of its `images`, and `answer`.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..prompts import NONE, Prompt, with_image_parts
from .images import Limits, cells_of, stored

# what is taken for what, the first that is there
KNOWN = {
    "prompt": ("prompt", "problem", "question"),
    "images": ("images", "image", "file_name"),
    "answer": ("answer", "solution", "ground_truth"),
    "id": ("id", "qid", "uid", "pid", "question_id"),
}
# TRL gives rewards arguments of these names, or takes a row that has them for something else
TAKEN_BY_TRL = {
    *("completion", "completions", "completion_ids", "prompts", "messages", "chosen", "rejected"),
    *("trainer_state", "log_extra", "log_metric", "environment", "environments"),
}

ROLES = ("system", "user", "assistant")


class Columns(NamedTuple):
    """Which column of the data is the row's prompt, images, answer and id; None for no such."""

    prompt: str
    images: str | None
    answer: str
    id: str | None

    @classmethod
    def of(cls, names: Sequence[str], chosen: Mapping[str, str] | None = None) -> "Columns":
        """Recognise the columns called `names`; `chosen` says it for some of them."""
        chosen = dict(chosen or {})
        if strange := sorted(set(chosen) - set(KNOWN)):
            raise ValueError(f"columns may name {sorted(KNOWN)}, got {strange}")
        if missing := sorted(set(chosen.values()) - set(names)):
            raise ValueError(f"there is no column {missing}; there are {sorted(names)}")
        found = {
            role: chosen.get(role) or next((name for name in known if name in names), None)
            for role, known in KNOWN.items()
        }
        for role in ("prompt", "answer"):
            if found[role] is None:
                raise ValueError(
                    f"no column holds the {role}: looked for {', '.join(KNOWN[role])}; there are "
                    f"{sorted(names)}: name it with columns={{{role!r}: ...}} (--columns "
                    f"{role}=NAME)"
                )
        return cls(**found)  # pyright: ignore[reportArgumentType]

    def left_out(self, names: Sequence[str]) -> list[str]:
        """The columns that a row does not keep: in the way of our own, or of TRL's."""
        ours = {role for role, name in self._asdict().items() if name and name != role}
        ours |= {"image"} if self.images else set()  # a second place to look for pictures
        return sorted(name for name in names if name in TAKEN_BY_TRL | ours and name != self.images)


def named_columns(told: Any) -> dict[str, str] | None:
    """What `--columns` says: ``name=column,…``, a JSON object, or a mapping from YAML."""
    if told is None or told == "":
        return None
    found = told
    if isinstance(told, str):
        try:
            found = json.loads(told)
        except ValueError:
            pairs = [pair.partition("=") for pair in told.split(",")]
            good = all(name.strip() and column.strip() for name, _, column in pairs)
            found = {name.strip(): column.strip() for name, _, column in pairs} if good else told
    if not isinstance(found, Mapping) or not all(isinstance(v, str) for v in found.values()):
        raise ValueError(f"--columns must be name=column,… or a JSON object, got {told!r}")
    return dict(found)


class Converted(NamedTuple):
    """A row's own part of the form; its images stay where they are."""

    id: str
    prompt: list[dict[str, Any]]
    answer: str


def convert(row: Mapping[str, Any], columns: Columns, prompt: Prompt) -> Converted:
    """The row's id, chat messages and gold.

    Raises:
        ValueError: with the reason why the row cannot be used.
    """
    value, cells = row[columns.prompt], cells_of(row[columns.images] if columns.images else None)
    asked = messages(value, NONE, len(cells))
    answer = gold(row[columns.answer])
    return Converted(
        row_id(row, columns) or _hash(asked, answer, cells),
        messages(value, prompt, len(cells)),
        answer,
    )


def row_id(row: Mapping[str, Any], columns: Columns) -> str | None:
    """The row's own id, if it has one."""
    own = row.get(columns.id) if columns.id else None
    return None if own is None or not str(own).strip() else str(own)


def gold(value: Any) -> str:
    """The gold as text; numbers as Python writes them."""
    if not isinstance(value, str | int | float):
        kind = "nothing" if value is None else type(value).__name__
        raise ValueError(f"its answer must be text or a number, got {kind}")
    if not str(value).strip():
        raise ValueError("its answer is empty")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"its answer must be a finite number, got {value}")
    return str(value)


def messages(value: Any, prompt: Prompt, images: int) -> list[dict[str, Any]]:
    """A prompt column → chat messages in the format `prompt`, an image part for each `<image>`.

    The format goes around the last message of the user. Without any `<image>` the pictures come
    ahead of the first words of the user, where TRL and `encode` put them.

    Args:
        images: how many pictures the row has; as many `<image>` there must be, or none.
    """
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise ValueError(f"its prompt must be text or chat messages, got {type(value).__name__}")
    texts = [_text(message) for message in value]
    asked = [index for index, (role, _) in enumerate(texts) if role == "user"]
    if not asked or not texts[asked[-1]][1].strip():
        raise ValueError("its prompt has no words of the user")
    found = sum(texts[index][1].count("<image>") for index in asked)
    if found != images and (found or not images):
        raise ValueError(f"its prompt has {found} <image>, the row {images} images")
    result = []
    for index, (role, text) in enumerate(texts):
        if index == asked[-1]:
            result += prompt.render(text)
        else:
            result.append(
                {"role": role, "content": with_image_parts(text) if role == "user" else text}
            )
    return result


def _text(message: Any) -> tuple[str, str]:
    """Role and text of a message, with `<image>` for an image part."""
    if not isinstance(message, Mapping) or message.get("role") not in (
        "system",
        "user",
        "assistant",
    ):
        raise ValueError(
            f"its prompt must hold messages with a role of {ROLES} and content, got "
            f"{str(message)[:80]!r}"
        )
    content = message.get("content")
    if isinstance(content, str):
        return message["role"], content
    if not isinstance(content, list):
        raise ValueError(f"a message's content must be text or parts, got {type(content).__name__}")
    return message["role"], "".join(map(_part, content))


def _part(part: Any) -> str:
    # a table writes None for what a part does not have
    part = {k: v for k, v in part.items() if v is not None} if isinstance(part, Mapping) else {}
    if part.get("type") == "text" and isinstance(part.get("text"), str):
        return part["text"]
    if part == {"type": "image"}:
        return "<image>"
    raise ValueError(
        f"a part of its prompt is neither text nor a bare image, but {str(part)[:80]!r}: pictures "
        "belong into a column images"
    )


def _hash(asked: list[dict[str, Any]], answer: str, cells: list[Any]) -> str:
    """An id for life: it does not change with the row's place, the format or other columns."""
    digest = hashlib.blake2b(json.dumps([asked, answer]).encode(), digest_size=8)
    for cell in cells:
        cell = cell if isinstance(cell, dict) else stored(cell, Limits())
        data = cell.get("bytes")
        own = data if data is not None else str(cell.get("path")).encode()
        digest.update(hashlib.blake2b(own).digest())
    return digest.hexdigest()
