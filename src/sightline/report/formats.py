"""Numbers and untrusted text as the report prints them."""

import json
import re
from typing import Any

from .records import number

MINUS = "\N{MINUS SIGN}"
HARMFUL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)


def clean(text: str) -> str:
    """Text that is valid in UTF-8 HTML and cannot reorder its surroundings.

    Control characters become their pictures, such as ``␀``; direction overrides their code points;
    lone surrogates and noncharacters ``\N{REPLACEMENT CHARACTER}``.
    """
    return HARMFUL.sub(lambda match: harmless(ord(match[0])), text)


def harmless(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)
    if 0x2000 < code < 0x2100:
        return f"⟨U+{code:04X}⟩"
    return "\N{REPLACEMENT CHARACTER}"


def visible(text: str) -> str:
    """Text for a table cell, with its white space shown."""
    return text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")


def shorten(text: str, length: int) -> str:
    rest = len(text) - length
    return text if rest <= 0 else f"{text[:length]}… ({counted(rest, 'more character')})"


def plain(value: Any, digits: int = 4) -> str:
    """A value as text: ``n/a`` for None, so many ``digits`` for a float, a true minus sign."""
    if value is None or value == "":
        return "n/a"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}".replace("-", MINUS)
    text = f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.{digits}g}"
    return text.replace("-", MINUS)


def nats(value: float | None) -> str:
    """A small number in three digits; below 0.0001 nats the digits say nothing."""
    if value is not None and 0 < abs(value) < 1e-4:
        return "< 0.0001" if value > 0 else f"> {MINUS}0.0001"
    return plain(value, 3)


def counted(count: int, noun: str) -> str:
    """Such as ``1 token`` and ``1,200 tokens``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value * 100:.1f}\N{NARROW NO-BREAK SPACE}%"


def signed(value: float | None) -> str:
    """A difference of two shares in percentage points, with its sign."""
    return "n/a" if value is None else f"{value * 100:+.1f}".replace("-", MINUS)


def duration(seconds: Any) -> str:
    value = number(seconds)
    if value is None:
        return "n/a"
    if value < 60:
        return f"{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def pretty(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)
