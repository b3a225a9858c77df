"""Decimal commas: `3,14 cm`, where a gold shows that its comma is no list's."""

import re

from .quantities import CURRENCIES, is_unit

COMMA = re.compile(
    r"(?P<before>[+-]?\s*[$€£¥]?\s*)(?P<whole>\d{1,3}(?:\.\d{3})+|\d+),(?P<places>\d+)(?P<after>.*)"
)


def with_points(gold: str, answer: str) -> tuple[str, str]:
    """Two normalised texts with decimal points, where the gold is written with a decimal comma.

    It is where the comma can be neither of a list nor of thousands: `3,14 cm`, `12,5%`, `€3,50`,
    `0,05`, `1.234,5`. `3,14` alone stays a list, and three digits behind a comma stay thousands;
    an answer is read as its gold is.
    """
    found = COMMA.fullmatch(gold)
    if found is None or not _is_decimal(found):
        return gold, answer
    other = COMMA.fullmatch(answer)
    return _pointed(found), _pointed(other) if other and not _may_be_thousands(other) else answer


def _is_decimal(found: re.Match[str]) -> bool:
    if _may_be_thousands(found):
        return False
    after, measured = found["after"].strip(), found["before"].strip("+- ")
    unit = is_unit(after) or after in CURRENCIES
    if after and not unit:
        return False
    padded = len(found["places"]) > 1 and found["places"][0] == "0"  # no list has `05`
    return bool(unit or measured or padded or "." in found["whole"])


def _may_be_thousands(found: re.Match[str]) -> bool:
    return len(found["places"]) == 3 and "." not in found["whole"]


def _pointed(found: re.Match[str]) -> str:
    whole = found["whole"].replace(".", "")
    return f"{found['before']}{whole}.{found['places']}{found['after']}"
