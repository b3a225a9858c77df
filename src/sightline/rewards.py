"""Completion and answer → float. Each function has the form TRL calls: lists in, a list out."""

import re
from collections.abc import Sequence
from typing import Any

# What the papers append to a question, for a boxed answer; PGPO (arXiv:2604.01840), app. A.
THINK_BOXED = (
    "You first think through the reasoning process as an internal monologue, enclosed within "
    "<think> </think> tags. Then, provide your final answer enclosed within \\boxed{}."
)
FORMAT = re.compile(r"\s*<think>.*?</think>\s*\\boxed\{[^{}]+\}\s*", re.DOTALL)


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
    return [float(FORMAT.fullmatch(text_of(c)) is not None) for c in completions]


def boxed(text: str) -> str | None:
    """The content of the last complete `\\boxed{}`, braces inside it balanced; None without one."""
    start = text.rfind("\\boxed{")
    while start >= 0:
        depth = 0
        for index in range(start + len("\\boxed"), len(text)):
            depth += {"{": 1, "}": -1}.get(text[index], 0)
            if depth == 0:
                return text[start + len("\\boxed{") : index].strip()
        start = text.rfind("\\boxed{", 0, start)
    return None


def text_of(completion: str | Sequence[dict]) -> str:
    """The text of a completion, plain or as the chat messages TRL hands to rewards."""
    if isinstance(completion, str):
        return completion
    return "".join(message["content"] for message in completion)
