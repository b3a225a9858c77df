"""A response as the model reads it: its tokens, and where each of them stands in the text."""

from typing import Any, NamedTuple

from ..token_labels import token_spans, token_texts
from .answered import Answered


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
