"""Answers judged by the verifier, where the file does not say what they are worth."""

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..rewards import REWARDS, Verifier
from .answered import Answered
from .tokens import tokens_of


def judged(rows: Sequence[Answered], tokenizer: Any, extractor: str) -> list[Answered]:
    """The rows, those with a gold and without a reward judged by the verifier."""
    found = list(rows)
    places = [p for p, row in enumerate(rows) if row.gold and row.reward is None]
    if not places:
        return found
    if importlib.util.find_spec("math_verify") is None:
        print(
            f"{len(places):,} answers are not judged: that needs math-verify, pip install "
            "'sightline[rewards]'"
        )
        return found
    texts = [tokens_of(tokenizer, rows[place]).text for place in places]
    verdicts = Verifier(extractor).verdicts(texts, [rows[place].gold for place in places])
    for place, verdict in zip(places, verdicts, strict=True):
        found[place] = replace(rows[place], reward=REWARDS[verdict], reward_reason=verdict.value)
    return found
