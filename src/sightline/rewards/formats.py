"""What a response looks like: the prompt that asks for a format, and rewards for keeping to it."""

from collections.abc import Sequence
from typing import Any

from .extraction import boxed

# What the papers append to a question, for a boxed answer; PGPO (arXiv:2604.01840), app. A.
THINK_BOXED = (
    "You first think through the reasoning process as an internal monologue, enclosed within "
    "<think> </think> tags. Then, provide your final answer enclosed within \\boxed{}."
)


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
    return [float(_thinks_and_boxes(text_of(completion))) for completion in completions]


def _thinks_and_boxes(text: str) -> bool:
    """Whether one box, whatever braces are inside of it, ends a text that thinks before it.

    In one pass from the end: a pattern would take quadratic time on what a model may write.
    """
    text, depth = text.strip(), 0
    for start in range(len(text) - 1, -1, -1):
        depth += {"}": 1, "{": -1}.get(text[start], 0)
        if depth == 0:
            break
    else:
        return False
    before, content = text[:start], text[start + 1 : -1]
    thinking = before.removesuffix("\\boxed").rstrip()
    return (
        text.endswith("}")
        and before.endswith("\\boxed")
        and bool(content)
        and "\\boxed{" not in content
        and thinking.startswith("<think>")
        and thinking.endswith("</think>")
        and len(thinking) >= len("<think></think>")
    )


def text_of(completion: str | Sequence[dict]) -> str:
    """The text of a completion, plain or as the chat messages TRL hands to rewards."""
    if isinstance(completion, str):
        return completion
    return "".join(message["content"] for message in completion)
