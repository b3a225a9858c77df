"""Tokens ↔ text: the piece of text each token adds, and the oracle label of each token."""

import codecs
from collections.abc import Sequence
from functools import cache
from typing import Any

from tokenizers.decoders import ByteLevel, DecodeStream


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The text each token adds; their concatenation is the decoded response.

    A character spread over several tokens belongs to the one that completes it, so a piece may be
    empty. Bytes that are no UTF-8 show as U+FFFD, with the token that tells, or the last one.
    Special tokens are shown.

    Raises:
        ValueError: an id is not in the vocabulary.
    """
    backend = tokenizer.backend_tokenizer
    if isinstance(backend.decoder, ByteLevel):
        reader = codecs.getincrementaldecoder("utf-8")("replace")
        pieces = [reader.decode(_bytes_of(_token(backend, i))) for i in ids]
        rest = reader.decode(b"", final=True)
    else:
        stream = DecodeStream(skip_special_tokens=False)
        pieces = [stream.step(backend, int(i)) or "" for i in ids]
        whole = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        rest = whole.removeprefix("".join(pieces))
    return [*pieces[:-1], pieces[-1] + rest] if pieces else []


def token_spans(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Where each token's piece begins and ends in their concatenation, in code points."""
    spans, start = [], 0
    for text in texts:
        spans.append((start, start + len(text)))
        start += len(text)
    return spans


def label_tokens(texts: Sequence[str], spans: Sequence[tuple[int, int, str]]) -> list[str]:
    """The label of the span that each token overlaps, else `other`.

    Args:
        texts: from `token_texts`.
        spans: character ranges of their concatenation, from a task.
    """
    labels = []
    for start, end in token_spans(texts):
        found = [label for low, high, label in spans if start < high and low < end]
        labels.append(found[0] if found else "other")
    return labels


def _token(backend: Any, index: int) -> str:
    token = backend.id_to_token(int(index)) if index >= 0 else None
    if token is None:
        raise ValueError(f"token id {index} is not in the model's vocabulary")
    return token


def _bytes_of(token: str) -> bytes:
    """The bytes a byte-level token stands for; an added token that is not spelt so, its text."""
    table = _byte_of_character()
    if all(character in table for character in token):
        return bytes(table[character] for character in token)
    return token.encode()


@cache
def _byte_of_character() -> dict[str, int]:
    """GPT-2's spelling of bytes as characters: printable ones as they are, the rest from U+0100."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {
        chr(0x100 + place): byte for place, byte in enumerate(hidden)
    }
