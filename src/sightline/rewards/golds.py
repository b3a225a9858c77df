"""What kind of answer a gold is, and whether another answer is the same: exact code, no parser.

The kind comes from the gold. Where its text could be several things, the first of these holds:

* a clock time: `3:45`, `3:45 pm`; a ratio needs a part that is no pair of digits: `1:2`;
* a number, with unit or without: `12`, `1,234`, `0.5`, `25%`, `\\frac{3}{4}`, `1\\frac{1}{2}`,
  `3\\times10^5`, `12 cm`, `$5`, `three`; `1,234` is one number and `1, 234` two;
* a choice letter: any single letter, its case aside. A variable `x` or a point `A` is read as one;
* a tuple, interval, set or list: `(1,2)`, `[0,1)`, `\\{1,2\\}`, `1, 2`, `3 and 4`, `\\pm 2`;
* an assignment: `x=3`, `AB = 5 cm`;
* words: `red`, `Yes`, `north-west`; `xy` is a word too, so that `no` is never `n·o` and `on`;
* all else is an expression, such as `\\sqrt{2}` or `y=2x+1`, which is not decided here unless the
  two are written alike.
"""

import re
from dataclasses import dataclass

from .normalisation import squeezed
from .quantities import Number, is_unit, read_number, same_number

CLOCK = re.compile(r"(\d{1,2}):([0-5]\d)(?::([0-5]\d))?\s*(?:(am|pm|a\.m|p\.m)\.?)?", re.I)
FULL_HOUR = re.compile(r"(\d{1,2})\s*(?:(am|pm|a\.m|p\.m)\.?|o'?\s?clock)", re.I)
RATIO = re.compile(r"\d+(?:\.\d+)?(?:\s*(?::|\bto\b)\s*\d+(?:\.\d+)?)+")
LETTER = re.compile(r"(?:(?:option|choice|answer)\s*:?\s*)?\(?([A-Za-z])\)?", re.I)
LETTER_AND_TEXT = re.compile(r"\(?([A-Za-z])\s*[.:)]\s*(?P<text>[^\s].*)")
# as in `A) and B)`
ANOTHER_LETTER = re.compile(r"(?:^|\band\b|\bor\b|[&,/])\s*\(?[A-Za-z]\)?\s*(?:[.:)]|$)")
UNIT = re.compile(r" (?P<unit>[a-z]{2,12}(?:\^\{?[23]\}?)?)$")
WORD = re.compile(r"[^\W\d_][\w '&.\-]*")
LONG_WORD = re.compile(r"[^\W\d_]{2,}")
SPELT = re.compile(r"[^\W\d_]{4,}")
FUNCTION = re.compile(r"\b(?:sin|cos|tan|cot|log|ln|exp|sqrt|pi|arcsin|arccos|arctan)\b", re.I)
NAME = re.compile(
    r"(?:m?\s*\\angle\s*)?[A-Za-z]{1,12}(?:_\{?\w\}?)?(?:\([a-z]\))?|\([a-z](?:, ?[a-z])+\)"
)
COMMAND = re.compile(r"\\[A-Za-z]+")
DOTS = re.compile(r"\\[lcv]?dots|\.\.\.")
BRACKETS = {"(": ")", "[": "]", "\\{": "\\}"}
DEEPEST = 3  # tuples within tuples


@dataclass(frozen=True)
class Clock:
    """A time of day; `half` is "am" or "pm" where it is written."""

    seconds: int
    half: str = ""


@dataclass(frozen=True)
class Ratio:
    """Two or more numbers of which only the proportion counts."""

    parts: tuple[Number, ...]


@dataclass(frozen=True)
class Letter:
    """The letter of a choice, in upper case."""

    letter: str


@dataclass(frozen=True)
class Words:
    """Words in lower case, without a leading article."""

    text: str


@dataclass(frozen=True)
class Items:
    """A tuple, interval, set or list; the brackets of sets and lists are "".

    Args:
        ordered: whether the order counts: in brackets, and in a list of other things than numbers
            unless it is sorted, as several choice letters are.
    """

    opening: str
    closing: str
    items: tuple["Answer", ...]
    ordered: bool


@dataclass(frozen=True)
class Assignment:
    """A name and what it is."""

    name: str
    value: "Answer"


@dataclass(frozen=True)
class Expression:
    """What exact code cannot read: normalised text."""

    text: str


Answer = Clock | Ratio | Number | Letter | Items | Assignment | Words | Expression


def same_answer(gold: str, answer: str) -> bool | None:
    """Whether two answers are the same; None where that takes an algebra system.

    Args:
        gold, answer: normalised.
    """
    if squeezed(gold) == squeezed(answer):
        return True
    return _same(read_answer(gold), answer)


def read_answer(text: str, depth: int = 0) -> Answer:
    """What a normalised text is, by the order at the head of this module."""
    proportion = _ratio(text) if ":" in text else None  # `12 to 15` may be a range
    for found in (_clock(text), proportion, read_number(text), _letter(text)):
        if found:
            return found
    if depth < DEEPEST:
        for read in (_items, _assignment):
            if found := read(text, depth):
                return found
    return _words(text) or Expression(text)


def _same(gold: Answer, text: str) -> bool | None:
    """Whether a normalised text is the gold; None where that takes an algebra system."""
    if isinstance(gold, Expression):
        return None if _alike_in_form(gold.text, text) else False
    if isinstance(gold, Assignment):
        name, value = _sides(text)
        return _same(gold.value, value) if name in ("", gold.name) else False
    if isinstance(gold, Letter):
        return _letter_with_text(text) == gold
    if isinstance(gold, Items):
        return _same_items(gold, text)
    if isinstance(gold, Words):
        words = _words(text)
        return words == gold
    if isinstance(gold, Clock):
        return _same_time(gold, _clock(text))
    text = _sides(text)[1]
    if isinstance(gold, Ratio):
        return _same_ratio(gold, text)
    number = read_number(_without_brackets(text))
    if number is not None:
        return same_number(gold, number)
    return None if _may_be_a_number(text) else False


def _clock(text: str) -> Clock | None:
    found = CLOCK.fullmatch(text)
    hour, minute, second, half = found.groups() if found else (None,) * 4
    if full := FULL_HOUR.fullmatch(text):
        hour, half = full.groups()
    if hour is None or int(hour) > 24 or (half and not 1 <= int(hour) <= 12):
        return None
    half = (half or "").lower().replace(".", "")
    hours = int(hour) if not half else int(hour) % 12 + (12 if half == "pm" else 0)
    return Clock(3600 * hours + 60 * int(minute or 0) + int(second or 0), half)


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


def _ratio(text: str) -> Ratio | None:
    if not RATIO.fullmatch(text):
        return None
    parts = tuple(read_number(part) for part in re.split(r":|\bto\b", text))
    whole = tuple(part for part in parts if part is not None and part.value)
    return Ratio(whole) if len(whole) == len(parts) else None


def _same_ratio(gold: Ratio, text: str) -> bool:
    other, number = _ratio(text), read_number(text)
    first, *rest = (part.value for part in gold.parts)
    if other is None:
        return number is not None and len(rest) == 1 and number.value == first / rest[0]
    if len(other.parts) != len(gold.parts):
        return False
    begin, *following = (part.value for part in other.parts)
    return all(first * b == begin * a for a, b in zip(rest, following, strict=True))


def _letter(text: str) -> Letter | None:
    found = LETTER.fullmatch(text)
    return Letter(found[1].upper()) if found else None


def _letter_with_text(text: str) -> Letter | None:
    """The choice that a text is or begins with: `B`, `B. 12 cm`."""
    found = LETTER_AND_TEXT.fullmatch(text)
    if found and not ANOTHER_LETTER.search(found["text"]):
        return Letter(found[1].upper())
    return _letter(text)


def _words(text: str) -> Words | None:
    if not WORD.fullmatch(text) or not LONG_WORD.search(text) or FUNCTION.search(text):
        return None
    words = re.sub(r"[\s\-]+", " ", text.casefold()).strip(" .")
    return Words(re.sub(r"^(?:the|an?) (?=.)", "", words))


def _split(text: str) -> tuple[str, str, list[str]] | None:
    """Brackets and items of a normalised text; None if it holds one thing only."""
    opening = next((bracket for bracket in BRACKETS if text.startswith(bracket)), "")
    closing = next((b for b in (")", "]", "\\}") if text.endswith(b)), "") if opening else ""
    inside = text[len(opening) : len(text) - len(closing)] if closing else text
    if closing and (parts := _at_top_level(inside)) is not None:
        if len(parts) > 1 or opening == "\\{":
            return opening, closing, parts
        return None
    parts = _at_top_level(text)
    return ("", "", parts) if parts is not None and len(parts) > 1 else None


def _at_top_level(text: str) -> list[str] | None:
    """The parts between commas outside of brackets; None where brackets do not pair up."""
    parts, begin, depth = [], 0, 0
    for found in re.finditer(r"[(\[{]|[)\]}]|[,;]|\s(?:and|or)\s", text):
        mark = found.group()
        if mark in "([{":
            depth += 1
        elif mark in ")]}":
            depth -= 1
        elif depth == 0:
            if part := text[begin : found.start()].strip():
                parts.append(part)
            elif mark in ",;":  # `, and` is one mark, `,,` none
                return None
            begin = found.end()
        if depth < 0:
            return None
    last = text[begin:].strip()
    return None if depth or not last else [*parts, last]


def _items(text: str, depth: int) -> Items | None:
    if text.startswith("\\pm"):
        number = read_number(text[3:])
        if number is None:
            return None
        return Items("", "", (number, Number(-number.value, number.places)), False)
    found = _split(text)
    if found is None:
        return None
    opening, closing, parts = found
    items = tuple(read_answer(part, depth + 1) for part in parts)
    if opening == "\\{":
        return Items("", "", items, False)
    names = {item.name for item in items if isinstance(item, Assignment)}
    sets = all(isinstance(item, Number | Assignment | Items) for item in items)
    ordered = bool(opening) or len(names) > 1 or not (sets or parts == sorted(parts))
    return Items(opening, closing, items, ordered)


def _same_items(gold: Items, text: str) -> bool | None:
    """Item by item; None where one of them, or all, take an algebra system."""
    while not gold.opening and (sides := _sides(text))[0] and _split(sides[1]):
        text = sides[1]  # `x = 1, 2`
    if gold.opening:
        text = _sides(text)[1]
    found = _pair(text) or _split(text)
    if found is None:
        return False
    opening, closing, parts = found
    if opening == "\\{":
        opening = closing = ""
    if (opening, closing) != (gold.opening, gold.closing) or len(parts) != len(gold.items):
        return False
    named = all(_sides(part)[0] for part in parts)
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


def _sides(text: str) -> tuple[str, str]:
    """Name and value of `x = 3`, also of `x = 6/2 = 3`; no name and all of it for anything else."""
    name, *values = re.split(r"=|\\approx", text)
    if not values or not NAME.fullmatch(name.strip()) or any("," in v for v in values[:-1]):
        return "", text
    return squeezed(name), values[-1].strip()


def _assignment(text: str, depth: int) -> Assignment | None:
    name, value = _sides(text)
    found = read_answer(value, depth + 1) if name and text.count("=") == 1 else None
    if isinstance(found, Number | Clock | Ratio) or (isinstance(found, Items) and found.opening):
        return Assignment(name, found)
    return None


def _without_brackets(text: str) -> str:
    inside = text[1:-1].strip()
    whole = text.startswith("(") and text.endswith(")") and _at_top_level(inside) == [inside]
    return inside if whole else text


def _may_be_a_number(text: str) -> bool:
    """Whether an algebra system may find a number in it: one thing, and no variable."""
    letters = re.search(r"[^\W\d_]", COMMAND.sub("", text).replace("°", ""))
    return not letters and _split(text) is None and not DOTS.search(text)


def _alike_in_form(gold: str, text: str) -> bool:
    """Whether two expressions can be the same: math-verify looks past what is compared here.

    It takes `1,2` for the interval `(1,2)`, and knows no upper case.
    """
    if DOTS.search(gold) or DOTS.search(text):
        return False
    if _words(text) and SPELT.search(text):
        return False  # to an algebra system `hello` is h·e·l·l·o
    units = {squeezed(side[len(without_unit(side)) :]) for side in (gold, text)} - {""}
    if len(units) > 1:
        return False
    gold, text = without_unit(gold), without_unit(text)
    if "=" not in gold:
        text = _sides(text)[1]
    ours, theirs = _form(gold), _form(text)
    return ours == theirs and _variables(gold) == _variables(text)


def without_unit(text: str) -> str:
    """An expression without a unit at its end; an algebra system would multiply by its letters."""
    found = UNIT.search(text)
    return text[: found.start()] if found and is_unit(found["unit"]) else text


def _form(text: str) -> tuple[str, str, int] | None:
    found = _split(text)
    if found is None:
        return None
    opening, closing, parts = found
    return ("", "", len(parts)) if opening == "\\{" else (opening, closing, len(parts))


def _variables(text: str) -> set[str]:
    return set(re.findall(r"[A-Z]", COMMAND.sub(" ", text)))
