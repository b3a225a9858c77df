"""Answers in one spelling, and golds whose type exact code decides."""

import json
import time
from fractions import Fraction
from pathlib import Path

import pytest

from sightline.rewards import normalise, read_answer, same_answer
from sightline.rewards.golds import (
    Assignment,
    Clock,
    Expression,
    Items,
    Letter,
    Ratio,
    Words,
)
from sightline.rewards.quantities import Number

PAIRS = Path(__file__).parent / "answer_pairs.jsonl"


def test_pairs_are_as_many_as_promised_and_each_once():
    pairs = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]
    keys = {(p.get("answer"), p.get("response"), p["gold"]) for p in pairs}
    assert len(keys) == len(pairs) >= 200


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (" $\\dfrac{1}{2}$. ", "\\frac{1}{2}"),
        ("１２", "12"),
        ("−5", "-5"),
        ("5²", "5^{2}"),
        ("3½", "3 1/2"),
        ("45^{\\circ}", "45°"),
        ("\\frac{45^\\circ}{2}", "\\frac{45° }{2}".replace(" ", "")),
        ("\\text{ red }", "red"),
        ("1{,}234", "1234"),
        ("\\left(1,\\,2\\right)", "(1, 2)"),
        ("\\(x\\)", "x"),
        ("√2", "\\sqrt{2}"),
        ("{12}", "12"),
        ("1\u200b2", "12"),
        ("$1$ and $2$", "$1$ and $2$"),
    ],
)
def test_one_spelling(text, normal):
    assert normalise(text) == normal


@pytest.mark.parametrize(
    ("gold", "kind"),
    [
        ("A", Letter),
        ("x", Letter),
        ("12", Number),
        ("1,234", Number),
        ("12 cm", Number),
        ("three", Number),
        ("1, 234", Items),
        ("(1,2)", Items),
        ("3:45", Clock),
        ("16:9", Ratio),
        ("x=3", Assignment),
        ("xy", Words),
        ("red", Words),
        ("12 to 15", Expression),
        ("\\sqrt{2}", Expression),
        ("y=2x+1", Expression),
        ("5m", Expression),
        ("5 m", Number),
    ],
)
def test_the_gold_decides_the_type(gold, kind):
    assert isinstance(read_answer(normalise(gold)), kind)


def test_numbers_are_exact():
    assert read_answer("0.1") == Number(Fraction(1, 10), places=1, significant=1)
    assert read_answer("-1\\frac{1}{2}") == Number(Fraction(-3, 2))
    assert read_answer("12 cm^2") == Number(Fraction(12), 0, 2, "length^2", Fraction(1, 10**4))
    # 10^400 is read, what lies beyond is left to the workers
    assert read_answer("1e400") == Number(Fraction(10**400), None, 1)
    assert isinstance(read_answer("1e401"), Expression)


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        ("1237/1000", "1.24", False),  # ends as a decimal, and so is not rounded
        ("2/3", "0.667", True),
        ("2/3", "0.666", False),
        ("12.5", "12.54", True),
        ("12.5", "12.56", False),
        ("1250", "1250.4", False),
    ],
)
def test_rounding(gold, answer, same):
    assert same_answer(gold, answer) is same


def test_hostile_answers_cost_nothing_here():
    started = time.monotonic()
    for answer in ["9**9**9**9", "99999999!", "1e99999999", "10^{99999999}", "(" * 999]:
        assert same_answer("12", answer) in (False, None)
        assert same_answer(answer, answer) is True
        assert same_answer(answer, "12") in (False, None)
    for text in ["{" * 1000, "}" * 1000, "\\text{" * 160, "1," * 500, " " * 1000, "°" * 1000]:
        assert same_answer("(1, 2)", normalise(text)) in (False, None)
    assert time.monotonic() - started < 2
    with pytest.raises(ValueError, match="at most 1000 characters, got 1000000"):
        normalise("1" * 10**6)
