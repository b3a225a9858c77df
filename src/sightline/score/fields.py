"""The values of a row → a question with its response, or what is wrong with them."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from ..data.dialects import messages
from ..prompts import Prompt
from .answered import Answered
from .chats import said

# what the families' chat templates write around turns and pictures
PICTURES = re.compile(
    r"<\|(?:image_pad|video_pad|vision_start|vision_end)\|>|<fake_token_around_image>"
)
CUT_OFF = (False, "false", "0", "length", "max_tokens")  # the APIs' words for it are among these
TURNS = re.compile(rf"<\|im_(?:start|end)\|>|<end_of_utterance>|{PICTURES.pattern}")


def answered_row(
    row: Mapping[str, Any],
    cells: list[Any],
    digests: tuple[str, ...],
    prompt: Prompt,
    with_response: bool,
) -> Answered:
    """The row by our names, its own id "" where it has none.

    Args:
        row: values by the names of `COLUMNS`.
        cells, digests: of its images.
        prompt: the format put around the question.

    Raises:
        ValueError: with the reason why it cannot be scored.
    """
    asked = messages(row.get("prompt"), prompt, len(cells))
    gold = "" if row.get("gold") is None else str(row["gold"])
    text, ids = _response(row) if with_response else (None, None)
    for name, value in (("prompt", json.dumps(asked, ensure_ascii=False)), ("response", text)):
        _refuse_surrogates(name, value or "")
        _refuse_markup(name, value or "")
    own = None if row.get("id") in (None, "") else str(row["id"])
    group = own if row.get("prompt_id") in (None, "") else str(row["prompt_id"])
    if group is None:
        content = json.dumps([asked, gold, digests]).encode()
        group = hashlib.blake2b(content, digest_size=8).hexdigest()
    for name, value in (("id", own or ""), ("prompt_id", group), ("gold", gold)):
        _refuse_surrogates(name, value)
    return Answered(
        own or "",
        group,
        0,
        asked,
        cells,
        digests,
        text,
        ids,
        _word(row.get("finished")) not in CUT_OFF,
        gold,
        _number("reward", row.get("reward")),
        str(row.get("reward_reason") or ""),
        _spans(row.get("spans")),
        _labels(row.get("labels"), ids),
        str(row.get("split") or ""),
        _number("step", row.get("step")),
    )


def _response(row: Mapping[str, Any]) -> tuple[str | None, list[int] | None]:
    given, ids = row.get("response"), row.get("response_ids")
    if ids is not None and not (
        isinstance(ids, list) and ids and all(type(i) is int and i >= 0 for i in ids)
    ):
        raise ValueError(f"its response_ids must be a list of token ids, got {str(ids)[:80]}")
    if isinstance(given, list) and len(given) == 1 and isinstance(given[0], Mapping):
        given = said(given[0])  # one message of the assistant, as TRL writes it
    if not (isinstance(given, str) or (given is None and ids is not None)):
        kind = "nothing" if given is None else type(given).__name__
        raise ValueError(f"its response must be text, got {kind}")
    return given, ids


def _refuse_surrogates(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"its {name} holds the lone surrogate U+{ord(text[error.start]):04X} at character "
            f"{error.start}, which no encoding has: mend what wrote the file"
        ) from error


def _refuse_markup(name: str, text: str) -> None:
    """Raise where a text holds what the processor will write, or what stands for pictures."""
    found = (TURNS if name == "prompt" else PICTURES).search(text)
    if found and name == "prompt":
        raise ValueError(
            f"its prompt holds {found[0]}: the chat template is in it already, and would be put "
            "around it again; give the question alone, or chat messages"
        )
    if found:
        raise ValueError(f"its response holds {found[0]}, which stands for a picture: take it out")


def _word(value: Any) -> Any:
    """A text in one spelling: all that a CSV holds is text, its numbers and truths too."""
    return value.strip().lower() if isinstance(value, str) else value


def _number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    word = _word(value)
    try:
        number = float({"true": 1, "false": 0}[word] if word in ("true", "false") else word)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"its {name} must be a number, got {str(value)[:80]!r}") from error
    if not math.isfinite(number):
        raise ValueError(f"its {name} must be finite, got {value}")
    return number


def _spans(value: Any) -> list[tuple[int, int, str]] | None:
    if value is None:
        return None
    good = isinstance(value, list) and all(
        isinstance(s, list | tuple)
        and len(s) == 3
        and type(s[0]) is int
        and type(s[1]) is int
        and 0 <= s[0] <= s[1]
        for s in value
    )
    if not good:
        raise ValueError(f"its spans must be a list of [start, end, label], got {str(value)[:80]}")
    return [(start, end, str(label)) for start, end, label in value]


def _labels(value: Any, ids: list[int] | None) -> list[str] | None:
    if value is None or ids is None:  # of other tokens, maybe
        return None
    if not isinstance(value, list) or len(value) != len(ids):
        raise ValueError(f"its labels must be one for each of {len(ids)} response_ids")
    return [str(label) for label in value]
