"""Responses of any framework, from a file, as they are scored: nothing is guessed in silence."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from .data import BadRow, Limits, decode
from .data.dialects import KNOWN, messages
from .data.images import MAX_PIXELS, cells_of, content, name_of
from .data.sources import open_source
from .data.survey import column_names
from .prompts import NONE, Prompt
from .rewards import text_of
from .token_labels import token_spans, token_texts

# what is taken for what, the first that is there; `chat` is what `sightline score` writes itself
COLUMNS = {
    **{"id": KNOWN["id"], "prompt_id": ("prompt_id",)},
    "prompt": ("chat", *KNOWN["prompt"]),
    "images": KNOWN["images"],
    "response": ("response", "completion", "output", "answer_text"),
    "response_ids": ("response_ids", "completion_ids"),
    "gold": ("gold", *KNOWN["answer"]),
    "reward": ("reward", "accuracy", "correct"),
    **{name: (name,) for name in ("reward_reason", "finished", "spans", "labels", "split")},
}
SHOWN = 20  # bad rows in a message


# what the families' chat templates write around turns and pictures
PICTURES = re.compile(
    r"<\|(?:image_pad|video_pad|vision_start|vision_end)\|>|<fake_token_around_image>"
)
TURNS = re.compile(rf"<\|im_(?:start|end)\|>|<end_of_utterance>|{PICTURES.pattern}")


@dataclass(frozen=True)
class Answered:
    """A question, and a response to it unless one is still to be sampled.

    Args:
        id: of the response, the only one of its name.
        prompt_id: of the question, shared by all responses to it.
        sample: place of the response among those.
        prompt: chat messages.
        cells: of the images, not decoded.
        digests: a hash of each image's bytes.
        text: the response as given, or None.
        ids: the response's tokens as given, or None.
        finished: False for one that was cut off, which has no end token.
        spans: labelled character ranges of the response.
        labels: of each of `ids`.
    """

    id: str
    prompt_id: str
    sample: int
    prompt: list[dict[str, Any]]
    cells: list[Any] = field(repr=False)
    digests: tuple[str, ...]
    text: str | None
    ids: list[int] | None
    finished: bool = True
    gold: str = ""
    reward: float | None = None
    reward_reason: str = ""
    spans: list[tuple[int, int, str]] | None = None
    labels: list[str] | None = None
    split: str = ""

    def row(self, limits: Limits) -> dict[str, Any]:
        """In the columns that `encode` takes, with its pictures decoded."""
        pictures = [self._picture(cell, limits) for cell in self.cells]
        return {"id": self.id, "prompt": self.prompt, "images": pictures, "answer": self.gold}

    def _picture(self, cell: Any, limits: Limits) -> Image.Image:
        try:
            return decode(cell, limits)
        except ValueError as error:
            raise ValueError(f"row {self.id!r}, image {name_of(cell)!r}: {error}") from error


class Responses(NamedTuple):
    """What a file held.

    Args:
        taken: which column was taken for what.
        bad: the rows that cannot be used.
        limits: of the images.
    """

    source: str
    rows: list[Answered]
    taken: dict[str, str]
    bad: list[BadRow]
    limits: Limits

    def description(self) -> str:
        """One line: what was loaded, and what was taken for what."""
        several = sum(len(row.cells) > 1 for row in self.rows)
        without = sum(not row.cells for row in self.rows)
        taken = ", ".join(f"{role} ← {name}" for role, name in self.taken.items())
        return (
            f"responses: {self.source}: {len(self.rows):,} rows used, {len(self.bad):,} listed as "
            f"bad; {without:,} without an image, {several:,} with several; {taken}"
        )

    def fingerprint(self) -> str:
        """A hash of all that is scored; paths do not count, the bytes of images do."""
        digest = hashlib.blake2b(digest_size=16)
        for row in self.rows:
            digest.update(repr(replace(row, cells=[])).encode("utf-8", "backslashreplace"))
        return digest.hexdigest()


class Tokens(NamedTuple):
    """A response as the model reads it.

    Args:
        ids: its tokens, the end token included if it has one.
        texts: of the tokens.
        text: all of them together, but for the end token.
        spans: where each token stands in `text`; the end token is nothing at its end.
        differs: the first character at which `text` is not what was given, or None.
    """

    ids: list[int]
    texts: list[str]
    text: str
    spans: list[tuple[int, int]]
    differs: int | None


def read_responses(
    source: Any,
    *,
    images: Path | None = None,
    prompt: Prompt = NONE,
    answered: bool = True,
    max_pixels: int = MAX_PIXELS,
    allow_outside_root: bool = False,
) -> Responses:
    """Read questions and responses from a file of any kind that `load_rows` knows, or a list.

    Args:
        images: the folder that image paths are relative to; by default that of the file.
        prompt: the format put around each question; none where it is already in place.
        answered: whether each row must have a response; otherwise it must have none.
    """
    found = open_source(source)
    if not len(found.rows):
        raise ValueError(f"{found.name} is empty: it holds no responses")
    names = column_names(found)
    taken = {
        role: name
        for role, known in COLUMNS.items()
        if (name := next((name for name in known if name in names), None))
    }
    if not answered:
        taken = {role: n for role, n in taken.items() if role not in ("response", "response_ids")}
    _check_columns(taken, names, answered)
    limits = Limits(images or found.root, max_pixels, allow_outside_root)
    rows, bad = [], []
    for place, raw in zip(found.places, found.rows, strict=True):
        name = image = ""
        try:
            if isinstance(raw, ValueError):
                raise raw
            row = {role: raw.get(column) for role, column in taken.items()}
            name = str(place if row.get("id") in (None, "") else row["id"])
            cells = cells_of(row.get("images"))
            digests = []
            for cell in cells:
                image = name_of(cell)
                found_bytes = content(cell, limits)
                digests.append(hashlib.blake2b(found_bytes, digest_size=16).hexdigest())
            image = ""
            rows.append(_answered(row, cells, tuple(digests), prompt, answered))
        except ValueError as error:
            bad.append(BadRow(name or place, place, image, str(error)))
    return Responses(found.name, _named(rows), taken, bad, limits)


def complaint(found: Responses) -> str:
    """What to say of the bad rows, the first of them by name."""
    total = len(found.rows) + len(found.bad)
    lines = [f"{len(found.bad)} of {total} rows of {found.source} cannot be scored:"]
    lines += [f"  {row}" for row in found.bad[:SHOWN]]
    if len(found.bad) > SHOWN:
        lines.append(f"  … and {len(found.bad) - SHOWN} more")
    return "\n".join([*lines, "mend them, or leave them out with --bad-rows skip-and-list"])


def tokens_of(tokenizer: Any, row: Answered) -> Tokens:
    """The tokens of a response: those given, or else those of its text."""
    ids = row.ids
    if ids is None:
        ids = list(tokenizer(row.text, add_special_tokens=False)["input_ids"])
        closed = bool(ids) and ids[-1] == tokenizer.eos_token_id
        ids += [tokenizer.eos_token_id] if row.finished and not closed else []
    if not ids:
        raise ValueError(f"row {row.id!r}: its response has no tokens")
    try:
        texts = token_texts(tokenizer, ids)
    except ValueError as error:
        raise ValueError(f"row {row.id!r}: {error}: is this the model that answered?") from error
    ended = ids[-1] in tokenizer.all_special_ids
    text = "".join(texts[:-1] if ended else texts)
    spans = [(min(a, len(text)), min(b, len(text))) for a, b in token_spans(texts)]
    return Tokens(ids, texts, text, spans, _difference(tokenizer, row, texts, text))


def _difference(tokenizer: Any, row: Answered, texts: list[str], text: str) -> int | None:
    """Where the tokens part from the given text; special tokens may be in it or left out."""
    if row.text is None or row.text in (text, "".join(texts)):
        return None
    if row.ids is not None and row.text == tokenizer.decode(row.ids, skip_special_tokens=True):
        return None
    pairs = zip(text, row.text, strict=False)
    same = next((place for place, (a, b) in enumerate(pairs) if a != b), None)
    return min(len(text), len(row.text)) if same is None else same


def _check_columns(taken: Mapping[str, str], names: Sequence[str], answered: bool) -> None:
    needed = ["prompt"] + (["response"] if answered and "response_ids" not in taken else [])
    for role in needed:
        if role not in taken:
            raise ValueError(
                f"no column holds the {role}: looked for {', '.join(COLUMNS[role])}; there are "
                f"{', '.join(sorted(names))}"
                + ("; to sample responses, say --generate N" if role == "response" else "")
            )


def _answered(
    row: dict[str, Any],
    cells: list[Any],
    digests: tuple[str, ...],
    prompt: Prompt,
    answered: bool,
) -> Answered:
    asked = messages(row["prompt"], prompt, len(cells))
    gold = "" if row.get("gold") is None else str(row["gold"])
    text, ids = _response(row) if answered else (None, None)
    for name, value in (("prompt", json.dumps(asked, ensure_ascii=False)), ("response", text)):
        _refuse_surrogates(name, value or "")
        _refuse_markup(name, value or "")
    own = None if row.get("id") in (None, "") else str(row["id"])
    group = own if row.get("prompt_id") in (None, "") else str(row["prompt_id"])
    if group is None:
        group = hashlib.blake2b(json.dumps([asked, gold, digests]).encode(), digest_size=8)
        group = group.hexdigest()
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
        row.get("finished") is not False,
        gold,
        _reward(row.get("reward")),
        str(row.get("reward_reason") or ""),
        _spans(row.get("spans")),
        _labels(row.get("labels"), ids),
        str(row.get("split") or ""),
    )


def _response(row: Mapping[str, Any]) -> tuple[str | None, list[int] | None]:
    given, ids = row.get("response"), row.get("response_ids")
    if ids is not None and not (
        isinstance(ids, list) and ids and all(type(i) is int and i >= 0 for i in ids)
    ):
        raise ValueError(f"its response_ids must be a list of token ids, got {str(ids)[:80]}")
    if isinstance(given, list) and len(given) == 1 and isinstance(given[0], Mapping):
        given = text_of(given)  # one message of the assistant, as TRL writes it
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


def _reward(value: Any) -> float | None:
    if value is not None and not isinstance(value, int | float):
        raise ValueError(f"its reward must be a number, got {value!r}")
    if value is not None and not abs(value) < float("inf"):
        raise ValueError(f"its reward must be finite, got {value}")
    return None if value is None else float(value)


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


def _named(rows: Sequence[Answered]) -> list[Answered]:
    """The rows with names of their own, numbered among the responses to their prompt."""
    owners, seen = Counter(row.id for row in rows), Counter[str]()
    groups = Counter(row.prompt_id for row in rows)
    named = []
    for row in rows:
        name = row.id if row.id and owners[row.id] == 1 else ""
        if not name:
            several = groups[row.prompt_id] > 1
            name = f"{row.prompt_id}-{seen[row.prompt_id]}" if several else row.prompt_id
        named.append(replace(row, id=name, sample=seen[row.prompt_id]))
        seen[row.prompt_id] += 1
    twice = [name for name, count in Counter(row.id for row in named).items() if count > 1]
    if twice:
        raise ValueError(f"several responses would have the id {twice[0]!r}: give each its own")
    return named
