"""Answers in one spelling, and golds whose type exact code decides."""

import json
import time
from fractions import Fraction
from pathlib import Path

import pytest

from sightline.rewards import gold_answer, normalise, read_answer, same_answer
from sightline.rewards.choices import Letter, read_option, without_choice
from sightline.rewards.decimal_commas import with_points
from sightline.rewards.golds import for_algebra
from sightline.rewards.kinds import Assignment, Clock, Expression, Items, Ratio, Words
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
        ("1 234", "1234"),
        ("12\u202f345\u00a0678", "12345678"),
        ("-1 234.5 cm", "-1234.5 cm"),
        ("(1 234, 5)", "(1234, 5)"),
        *((text, text) for text in ("12 34", "1234 567", "1 2345", "1 200/300", "0.1 234")),
        ("1 \\dfrac{200}{300}", "1 \\frac{200}{300}"),
        ("= 12", "12"),
        ("$=12$", "12"),
        *((text, text) for text in ("=> 12", "== 12", "=", "x=12")),
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


@pytest.mark.parametrize(
    ("gold", "option"),
    [
        ("B. 12 cm", ("B", "12 cm")),
        ("(B) 12 cm", ("B", "12 cm")),
        ("(B): 12 cm", ("B", "12 cm")),
        ("B: 12 cm", ("B", "12 cm")),
        ("B.12", ("B", "12")),
        ("J. Both A and B", ("J", "Both A and B")),
        *((gold, None) for gold in ("B", "b. 12", "x: 3", "K. 12", "A.M.", "A:B", "f(A) 3")),
        *((gold, None) for gold in ("A) 3 B) 4", "C: 40%, H: 6%", "A) and B", "A. or B", "A: , C")),
        *((gold, None) for gold in ("(A) \\cup (B)", "(A) + 1", "(A)^2", "A. = 3", "(A)-1")),
        ("(A) -1", ("A", "-1")),
    ],
)
def test_a_choice_and_its_text(gold, option):
    assert read_option(gold) == option


def test_what_is_left_of_a_choice():
    assert without_choice("B. 12 cm", "b") == ("B", "B")
    assert without_choice("B. 12 cm", "C. 12 cm") == ("B", "C")
    assert without_choice("B. 12 cm", "b) 13 cm") == ("12 cm", "13 cm")
    assert without_choice("B. 12 cm", "13 cm") == ("12 cm", "13 cm")
    assert without_choice("12 cm", "B") == ("12 cm", "B")
    # what goes to the algebra system has no letter that it would multiply by
    assert for_algebra("C. 2\\sqrt{2}", "\\sqrt{8} cm") == ("2\\sqrt{2}", "\\sqrt{8}")


@pytest.mark.parametrize(
    ("gold", "pointed"),
    [
        ("3,14 cm", "3.14 cm"),
        ("-12,5%", "-12.5%"),
        ("3,50 €", "3.50 €"),
        ("$3,50", "$3.50"),
        ("0,05", "0.05"),
        ("1.234,567", "1234.567"),
        *((gold, gold) for gold in ("3,14", "0,5", "3,140 cm", "3,140", "3,4 and 5", "1,2,3 cm")),
        *((gold, gold) for gold in ("3, 14 cm", "3,14 apples", "2,0", "(0,05)")),
    ],
)
def test_a_decimal_comma_is_one_where_nothing_else_can_be_meant(gold, pointed):
    assert with_points(gold, "7") == (pointed, "7")


def test_an_answer_is_read_with_the_comma_of_its_gold():
    assert with_points("3,14 cm", "3,14")[1] == "3.14"
    assert with_points("3,14 cm", "3,141")[1] == "3,141"  # thousands
    assert with_points("3.14 cm", "3,14")[1] == "3,14"


@pytest.mark.parametrize(
    ("gold", "content"),
    [
        ("<answer> 7 </answer>", "7"),
        ("<answer>7</answer> <answer>\\boxed{8}</answer>", "8"),
        ("so 3 * 4 = 12\n#### 12", "12"),
        ("#### 1 #### 2", "2"),
        *((gold, gold) for gold in ("7", "####", "<answer></answer>", "<answer>7", "### 7")),
    ],
)
def test_the_answer_in_a_gold(gold, content):
    assert gold_answer(gold) == content


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
