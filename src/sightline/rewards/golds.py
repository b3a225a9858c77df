"""Whether an answer is the gold: exact code that goes by the kind of the gold (`kinds.py`)."""

import re

from .choices import Letter, letter_of, without_choice
from .decimal_commas import with_points
from .kinds import (
    Answer,
    Assignment,
    Clock,
    Expression,
    Items,
    Ratio,
    Words,
    at_top_level,
    read_answer,
    read_clock,
    read_ratio,
    read_words,
    sides,
    split,
)
from .normalisation import squeezed
from .quantities import is_unit, read_number, same_number

UNIT = re.compile(r" (?P<unit>[a-z]{2,12}(?:\^\{?[23]\}?)?)$")
SPELT = re.compile(r"[^\W\d_]{4,}")
COMMAND = re.compile(r"\\[A-Za-z]+")
DOTS = re.compile(r"\\[lcv]?dots|\.\.\.")


def same_answer(gold: str, answer: str) -> bool | None:
    """Whether two answers are the same; None where that takes an algebra system.

    Args:
        gold, answer: normalised.
    """
    if squeezed(gold) == squeezed(answer):
        return True
    gold, answer = _settled(gold, answer)
    return squeezed(gold) == squeezed(answer) or _same(read_answer(gold), answer)


def for_algebra(gold: str, answer: str) -> tuple[str, str]:
    """Gold and answer as an algebra system may compare them, where `same_answer` is None."""
    gold, answer = _settled(gold, answer)
    return _without_unit(gold), _without_unit(answer)


def _settled(gold: str, answer: str) -> tuple[str, str]:
    """The two without choice letters that say no more than their texts, and with decimal points."""
    return with_points(*without_choice(gold, answer))


def _same(gold: Answer, text: str) -> bool | None:
    """Whether a normalised text is the gold; None where that takes an algebra system."""
    if isinstance(gold, Expression):
        return None if _alike_in_form(gold.text, text) else False
    if isinstance(gold, Assignment):
        name, value = sides(text)
        return _same(gold.value, value) if name in ("", gold.name) else False
    if isinstance(gold, Letter):
        return letter_of(text) == gold
    if isinstance(gold, Items):
        return _same_items(gold, text)
    if isinstance(gold, Words):
        words = read_words(text)
        return words == gold
    if isinstance(gold, Clock):
        return _same_time(gold, read_clock(text))
    text = sides(text)[1]
    if isinstance(gold, Ratio):
        return _same_ratio(gold, text)
    number = read_number(_without_brackets(text))
    if number is not None:
        return same_number(gold, number)
    return None if _may_be_a_number(text) else False


def _same_time(gold: Clock, answer: Clock | None) -> bool:
    """As written; a gold without am or pm does not mind which the answer adds."""
    if answer is None:
        return False
    if gold.half:
        afternoon = answer.seconds >= 13 * 3600
        return gold.seconds == answer.seconds and bool(answer.half or afternoon)
    if answer.half:
        return gold.seconds % 43200 == answer.seconds % 43200 and gold.seconds <= 13 * 3600
    return gold.seconds == answer.seconds


def _same_ratio(gold: Ratio, text: str) -> bool:
    other, number = read_ratio(text), read_number(text)
    first, *rest = (part.value for part in gold.parts)
    if other is None:
        return number is not None and len(rest) == 1 and number.value == first / rest[0]
    if len(other.parts) != len(gold.parts):
        return False
    begin, *following = (part.value for part in other.parts)
    return all(first * b == begin * a for a, b in zip(rest, following, strict=True))


def _same_items(gold: Items, text: str) -> bool | None:
    """Item by item; None where one of them, or all, take an algebra system."""
    while not gold.opening and (named := sides(text))[0] and split(named[1]):
        text = named[1]  # `x = 1, 2`
    if gold.opening:
        text = sides(text)[1]
    found = _pair(text) or split(text)
    if found is None:
        return False
    opening, closing, parts = found
    if opening == "\\{":
        opening = closing = ""
    if (opening, closing) != (gold.opening, gold.closing) or len(parts) != len(gold.items):
        return False
    named = all(sides(part)[0] for part in parts)
    if gold.ordered and not (named and isinstance(gold.items[0], Assignment)):
        verdicts = [_same(item, part) for item, part in zip(gold.items, parts, strict=True)]
    else:
        verdicts = _matched_in_any_order(gold.items, parts)
    if all(verdicts):
        return True
    return False if any(verdict is False for verdict in verdicts) else None


def _matched_in_any_order(items: tuple[Answer, ...], parts: list[str]) -> list[bool | None]:
    left, verdicts = list(parts), []
    for item in items:
        results = [_same(item, part) for part in left]
        verdict = True if True in results else None if None in results else False
        verdicts.append(verdict)
        if verdict is not False:
            left.pop(results.index(verdict))
    return verdicts


def _pair(text: str) -> tuple[str, str, list[str]] | None:
    """`\\pm 2` as the list that it stands for."""
    if text.startswith("\\pm") and read_number(text[3:]):
        return "", "", [text[3:].strip(), "-" + text[3:].strip()]
    return None


def _without_brackets(text: str) -> str:
    inside = text[1:-1].strip()
    whole = text.startswith("(") and text.endswith(")") and at_top_level(inside) == [inside]
    return inside if whole else text


def _may_be_a_number(text: str) -> bool:
    """Whether an algebra system may find a number in it: one thing, and no variable."""
    letters = re.search(r"[^\W\d_]", COMMAND.sub("", text).replace("°", ""))
    return not letters and split(text) is None and not DOTS.search(text)


def _alike_in_form(gold: str, text: str) -> bool:
    """Whether two expressions can be the same: math-verify looks past what is compared here.

    It takes `1,2` for the interval `(1,2)`, and knows no upper case.
    """
    if DOTS.search(gold) or DOTS.search(text):
        return False
    if read_words(text) and SPELT.search(text):
        return False  # to an algebra system `hello` is h·e·l·l·o
    units = {squeezed(side[len(_without_unit(side)) :]) for side in (gold, text)} - {""}
    if len(units) > 1:
        return False
    gold, text = _without_unit(gold), _without_unit(text)
    if "=" not in gold:
        text = sides(text)[1]
    ours, theirs = _form(gold), _form(text)
    return ours == theirs and _variables(gold) == _variables(text)


def _without_unit(text: str) -> str:
    """An expression without a unit at its end; an algebra system would multiply by its letters."""
    found = UNIT.search(text)
    return text[: found.start()] if found and is_unit(found["unit"]) else text


def _form(text: str) -> tuple[str, str, int] | None:
    found = split(text)
    if found is None:
        return None
    opening, closing, parts = found
    return ("", "", len(parts)) if opening == "\\{" else (opening, closing, len(parts))


def _variables(text: str) -> set[str]:
    return set(re.findall(r"[A-Z]", COMMAND.sub(" ", text)))
