"""Which tokens of a response are attributed to parts of its images."""

import re
from collections.abc import Mapping
from typing import Any


def choose_tokens(rule: str, record: Mapping[str, Any]) -> list[int]:
    """The tokens of a record of `tokens.jsonl` that a rule means, in their order.

    Args:
        rule: ``top:K``, the K of largest dependency; ``text:REGEX``, those whose piece of text
            holds it; ``label:NAME``, those with that oracle label.
    """
    kind, _, value = rule.partition(":")
    tokens = record["tokens"]
    if kind == "top":
        dependency = [-1.0 if d is None else d for d in record.get("dependency", [])]
        # of equal ones the earlier
        order = sorted(range(len(dependency)), key=lambda index: (-dependency[index], index))
        return sorted(order[: int(value)])
    if kind == "text":
        return [index for index, text in enumerate(tokens) if re.search(value, text)]
    return [index for index, label in enumerate(record.get("labels") or []) if label == value]


def check_rule(rule: str) -> None:
    """Raise unless `choose_tokens` knows the rule."""
    kind, colon, value = rule.partition(":")
    if not colon or not value or kind not in ("top", "text", "label"):
        raise ValueError(f"--attribute must be top:K, text:REGEX or label:NAME, got {rule!r}")
    if kind == "top" and not (value.isdecimal() and int(value) >= 1):
        raise ValueError(f"--attribute top:K needs a number of at least 1, got {value!r}")
    if kind == "text":
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"--attribute text: {value!r} is no expression: {error}") from error
