"""What kind of answer a text is: exact code, no parser.

Where a text could be several things, the first of these holds:

* a clock time: `3:45`, `3:45 pm`; a ratio needs a part that is no pair of digits: `1:2`;
* a number, with unit or without: `12`, `1,234`, `0.5`, `25%`, `\\frac{3}{4}`, `1\\frac{1}{2}`,
  `3\\times10^5`, `12 cm`, `$5`, `three`; `1,234` is one number and `1, 234` two;
* a choice letter: any single letter, its case aside. A variable `x` or a point `A` is read as one;
* a tuple, interval, set or list: `(1,2)`, `[0,1)`, `\\{1,2\\}`, `1, 2`, `3 and 4`, `\\pm 2`;
* an assignment: `x=3`, `AB = 5 cm`;
* words: `red`, `Yes`, `north-west`; `xy` is a word too, so that `no` is never `n·o` and `on`;
* all else is an expression, such as `\\sqrt{2}` or `y=2x+1`.
"""

import re
from dataclasses import dataclass

from .choices import Letter, read_letter
from .normalisation import squeezed
from .quantities import Number, read_number

CLOCK = re.compile(r"(\d{1,2}):([0-5]\d)(?::([0-5]\d))?\s*(?:(am|pm|a\.m|p\.m)\.?)?", re.I)
FULL_HOUR = re.compile(r"(\d{1,2})\s*(?:(am|pm|a\.m|p\.m)\.?|o'?\s?clock)", re.I)
RATIO = re.compile(r"\d+(?:\.\d+)?(?:\s*(?::|\bto\b)\s*\d+(?:\.\d+)?)+")
WORD = re.compile(r"[^\W\d_][\w '&.\-]*")
LONG_WORD = re.compile(r"[^\W\d_]{2,}")
FUNCTION = re.compile(r"\b(?:sin|cos|tan|cot|log|ln|exp|sqrt|pi|arcsin|arccos|arctan)\b", re.I)
NAME = re.compile(
    r"(?:m?\s*\\angle\s*)?[A-Za-z]{1,12}(?:_\{?\w\}?)?(?:\([a-z]\))?|\([a-z](?:, ?[a-z])+\)"
)
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


def read_answer(text: str, depth: int = 0) -> Answer:
    """What a normalised text is, by the order at the head of this module."""
    proportion = read_ratio(text) if ":" in text else None  # `12 to 15` may be a range
    for found in (read_clock(text), proportion, read_number(text), read_letter(text)):
        if found:
            return found
    if depth < DEEPEST:
        for read in (_items, _assignment):
            if found := read(text, depth):
                return found
    return read_words(text) or Expression(text)


def read_clock(text: str) -> Clock | None:
    """The time that a normalised text is."""
    found = CLOCK.fullmatch(text)
    hour, minute, second, half = found.groups() if found else (None,) * 4
    if full := FULL_HOUR.fullmatch(text):
        hour, half = full.groups()
    if hour is None or int(hour) > 24 or (half and not 1 <= int(hour) <= 12):
        return None
    half = (half or "").lower().replace(".", "")
    hours = int(hour) if not half else int(hour) % 12 + (12 if half == "pm" else 0)
    return Clock(3600 * hours + 60 * int(minute or 0) + int(second or 0), half)


def read_ratio(text: str) -> Ratio | None:
    """The ratio that a normalised text is; ranges, `12 to 15`, look alike."""
    if not RATIO.fullmatch(text):
        return None
    parts = tuple(read_number(part) for part in re.split(r":|\bto\b", text))
    whole = tuple(part for part in parts if part is not None and part.value)
    return Ratio(whole) if len(whole) == len(parts) else None


def read_words(text: str) -> Words | None:
    """The words that a normalised text is; None for mathematics."""
    if not WORD.fullmatch(text) or not LONG_WORD.search(text) or FUNCTION.search(text):
        return None
    words = re.sub(r"[\s\-]+", " ", text.casefold()).strip(" .")
    return Words(re.sub(r"^(?:the|an?) (?=.)", "", words))


def split(text: str) -> tuple[str, str, list[str]] | None:
    """Brackets and items of a normalised text; None if it holds one thing only."""
    opening = next((bracket for bracket in BRACKETS if text.startswith(bracket)), "")
    closing = next((b for b in (")", "]", "\\}") if text.endswith(b)), "") if opening else ""
    inside = text[len(opening) : len(text) - len(closing)] if closing else text
    if closing and (parts := at_top_level(inside)) is not None:
        if len(parts) > 1 or opening == "\\{":
            return opening, closing, parts
        return None
    parts = at_top_level(text)
    return ("", "", parts) if parts is not None and len(parts) > 1 else None


def at_top_level(text: str) -> list[str] | None:
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
    found = split(text)
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


def sides(text: str) -> tuple[str, str]:
    """Name and value of `x = 3`, also of `x = 6/2 = 3`; no name and all of it for anything else."""
    name, *values = re.split(r"=|\\approx", text)
    if not values or not NAME.fullmatch(name.strip()) or any("," in v for v in values[:-1]):
        return "", text
    return squeezed(name), values[-1].strip()


def _assignment(text: str, depth: int) -> Assignment | None:
    name, value = sides(text)
    found = read_answer(value, depth + 1) if name and text.count("=") == 1 else None
    if isinstance(found, Number | Clock | Ratio) or (isinstance(found, Items) and found.opening):
        return Assignment(name, found)
    return None
