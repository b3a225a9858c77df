"""math-verify as workers run it. It is loaded by its path: nothing of the package comes with it."""

import logging
import math
import re
from dataclasses import replace
from typing import Any

import sympy
from math_verify import LatexExtractionConfig, parse, verify

TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*°")
# units are looked at before: with `units` it makes 2 of 2ab
LATEX = LatexExtractionConfig(
    normalization_config=replace(LatexExtractionConfig().normalization_config, units=False)
)
NO_LIMIT: Any = None  # of its own: that works by signals, and a worker has a deadline
logging.disable()  # it logs a traceback for each answer that it cannot read


def compare(golds: list[str], answers: list[str]) -> list[float]:
    """1 for an answer that equals its gold, 0 for another, NaN for one that is no mathematics.

    Raises:
        ValueError: the gold is no mathematics.
    """
    return [_compare(gold, answer) for gold, answer in zip(golds, answers, strict=True)]


def _compare(gold: str, answer: str) -> float:
    expected, found = _read(gold), _read(answer)
    if expected is None:
        raise ValueError(f"the gold cannot be read: {gold!r}")
    if found is None:
        return math.nan
    return float(
        verify(expected, found, timeout_seconds=NO_LIMIT) and _really_equal(expected, found)
    )


def _read(text: str) -> Any:
    if TRIGONOMETRIC.search(text):  # math-verify drops the sign of degrees
        text = DEGREES.sub(r"{\\frac{\1 \\pi}{180}}", text)
    text = text.replace("°", r"^{\circ}")
    parsed = parse(
        f"${text}$",
        extraction_config=[LATEX],
        fallback_mode="no_fallback",
        parsing_timeout=NO_LIMIT,
    )
    return parsed[0] if parsed else None


def _really_equal(gold: Any, answer: Any) -> bool:
    """Whether two numbers are equal relative to their size.

    math-verify 0.9.0 compares by absolute difference: it takes 1/2^99 for 1/2^98 (its issue 14).
    """
    if not all(isinstance(side, sympy.Expr) and side.is_number for side in (gold, answer)):
        return True
    first, second = (sympy.N(side.doit(), 30) for side in (gold, answer))
    inexact = gold.has(sympy.Float) or answer.has(sympy.Float)
    return bool(abs(first - second) <= abs(first) * sympy.Float(1e-5 if inexact else 1e-20))


# What parser and algebra build on first use (half a second) is there for every fork.
compare([r"\frac{\sqrt{12}}{2}", "y=2x+1", r"(0,\pi]"], [r"\sqrt{3}", "y=1+2x", r"(0,\pi]"])
