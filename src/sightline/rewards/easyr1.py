"""The rewards of EasyR1 and its forks, to reproduce their numbers: mathruler, and their format.

mathruler hands what a model wrote to Python's `eval`, through sympy's `parse_expr` and a filter.
Here that happens in a worker process and not in the trainer; it still happens. For a run of your
own take `accuracy`.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from .formats import text_of
from .verdict import Verdict, log
from .workers import Workers

SYMBOLS = re.compile("([<>/])")
IN_ORDER = ("<think>", "</think>", "\\boxed{", "}")


def easyr1_format(completions: Sequence[Any], **columns: Any) -> list[float]:
    """1 where a response is `<think>…</think>…\\boxed{…}…`, with nothing before it, else 0."""
    return [_format(text_of(completion)) for completion in completions]


def easyr1_accuracy(
    completions: Sequence[Any],
    answer: Sequence[Any],
    log_metric: Any = None,
    log_extra: Any = None,
    **columns: Any,
) -> list[float | None]:
    """1 where mathruler grades the last box of a response as `answer`, else 0; None if it fails.

    EasyR1 counts a failure as 0, and hangs where mathruler does.

    Raises:
        ImportError: mathruler, or a package that it needs and does not ask for, is not installed.
    """
    tasks = [
        {"responses": [_tightened(text_of(completion))], "golds": [str(gold)]}
        for completion, gold in zip(completions, answer, strict=True)
    ]
    try:
        outcomes = mathruler_workers().run(tasks)
    except ImportError as error:
        raise ImportError(
            "easyr1_accuracy needs mathruler: pip install mathruler sympy pylatexenc tqdm "
            f"({error})"
        ) from error
    rewards = [outcome.number if outcome.kind == "number" else None for outcome in outcomes]
    names = {1.0: Verdict.MATCHED, 0.0: Verdict.DIFFERENT}
    verdicts = [
        Verdict.TIMED_OUT
        if outcome.kind == "timed_out"
        else names.get(outcome.number, Verdict.RAISED)
        for outcome in outcomes
    ]
    log("easyr1_accuracy", verdicts, list(Verdict), log_metric, log_extra)
    return rewards


@cache
def mathruler_workers() -> Workers:
    """The workers that run mathruler."""
    return Workers("by_mathruler", "grade", file=Path(__file__).with_name("by_mathruler.py"))


def _tightened(text: str) -> str:
    """Without spaces around `<`, `>` and `/`, which Qwen2.5-VL-32B writes; as EasyR1 does first."""
    parts = SYMBOLS.split(text)
    last = len(parts) - 1
    for index in range(0, len(parts), 2):  # the texts between symbols
        if index > 0:
            parts[index] = parts[index].lstrip()
        if index < last:
            parts[index] = parts[index].rstrip()
    return "".join(parts)


def _format(text: str) -> float:
    r"""EasyR1's pattern `<think>.*</think>.*\\boxed\{.*\}.*`, in linear time."""
    text = _tightened(text)
    position = 0
    for piece in IN_ORDER:
        found = text.find(piece, position)
        if found < 0 or (piece == "<think>" and found > 0):
            return 0.0
        position = found + len(piece)
    return 1.0
