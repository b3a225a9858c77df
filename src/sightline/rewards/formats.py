"""What a response looks like: the prompt that asks for a format, and rewards for keeping to it."""

from collections.abc import Mapping, Sequence
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


def text_of(completion: Any) -> str:
    """The text of a completion, plain or as the chat messages TRL hands to rewards.

    A message without content, as one that only calls a tool, has no text, and neither have parts
    of a message that are no text.

    Raises:
        ValueError: it is neither, naming what was found.
    """
    if isinstance(completion, str):
        return completion
    if not isinstance(completion, Sequence):
        raise ValueError(f"a completion must be text or chat messages, got {_kind(completion)}")
    return "".join(map(_content, completion))


def _content(message: Any) -> str:
    if not isinstance(message, Mapping):
        raise ValueError(f"a completion's messages must be mappings, got {_kind(message)}")
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise ValueError(f"a message's content must be text or parts, got {_kind(content)}")
    return "".join(map(_part, content))


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise ValueError(f"a part of a message must be a mapping, got {_kind(part)}")
    if part.get("type", "text") != "text":  # a picture, say
        return ""
    if not isinstance(part.get("text"), str):
        raise ValueError(f"a text part of a message must hold text, got {_kind(part.get('text'))}")
    return part["text"]


def _kind(value: Any) -> str:
    return f"{type(value).__name__}: {str(value)[:80]!r}"
