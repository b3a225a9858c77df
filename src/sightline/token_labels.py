"""Tokens ↔ text: the piece of text each token adds, and the oracle label of each token."""

from collections.abc import Sequence
from typing import Any

from tokenizers.decoders import DecodeStream


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The text each token adds; their concatenation is the decoded response.

    A character spread over several tokens belongs to the one that completes it, so a piece may be
    empty. Special tokens are shown.
    """
    stream = DecodeStream(skip_special_tokens=False)
    return [stream.step(tokenizer.backend_tokenizer, int(i)) or "" for i in ids]


def label_tokens(texts: Sequence[str], spans: Sequence[tuple[int, int, str]]) -> list[str]:
    """The label of the span that each token overlaps, else `other`.

    Args:
        texts: from `token_texts`.
        spans: character ranges of their concatenation, from a task.
    """
    labels, start = [], 0
    for text in texts:
        end = start + len(text)
        found = [label for low, high, label in spans if start < high and low < end]
        labels.append(found[0] if found else "other")
        start = end
    return labels
