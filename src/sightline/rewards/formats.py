"""What a response looks like: the prompt that asks for a format, and rewards for keeping to it."""

import re
from collections.abc import Sequence
from typing import Any

from .extraction import boxed

# What the papers append to a question, for a boxed answer; PGPO (arXiv:2604.01840), app. A.
THINK_BOXED = (
    "You first think through the reasoning process as an internal monologue, enclosed within "
    "<think> </think> tags. Then, provide your final answer enclosed within \\boxed{}."
)
FORMAT = re.compile(r"\s*<think>.*?</think>\s*(\\boxed\{(.+)\})\s*", re.DOTALL)


def exact_answer(completions: Sequence[Any], answer: Sequence[str], **columns: Any) -> list[float]:
    """1 where the last `\\boxed{}` of a completion holds the row's `answer`, else 0."""
    return [
        float(boxed(text_of(completion)) == str(gold).strip())
        for completion, gold in zip(completions, answer, strict=True)
    ]


def think_format(completions: Sequence[Any], **columns: Any) -> list[float]:
    """1 where a completion is `<think> … </think>` followed by one `\\boxed{}`, else 0.

    The format half of PGPO's reward (arXiv:2604.01840, sec. 5.1).
    """
    found = [FORMAT.fullmatch(text_of(completion)) for completion in completions]
    # the first brace must close with the last: one box, whatever braces are inside of it
    return [float(match is not None and boxed(match[1]) == match[2].strip()) for match in found]


def text_of(completion: str | Sequence[dict]) -> str:
    """The text of a completion, plain or as the chat messages TRL hands to rewards."""
    if isinstance(completion, str):
        return completion
    return "".join(message["content"] for message in completion)
