"""The letter of a choice: alone, or ahead of the text that it stands for."""

import re
from dataclasses import dataclass
from typing import NamedTuple

LETTER = re.compile(r"(?:(?:option|choice|answer)\s*:?\s*)?\(?([A-Za-z])\)?", re.I)
LETTER_AND_TEXT = re.compile(r"\(?([A-Za-z])\s*[.:)]\s*(?P<text>[^\s].*)")
# as in `A) and B)`
ANOTHER_LETTER = re.compile(r"(?:^|\band\b|\bor\b|[&,/])\s*\(?[A-Za-z]\)?\s*(?:[.:)]|$)")
# `B. 12 cm`, `(B) 12 cm`, `B: 12 cm`; a gold says so in upper case, for `x: 3` is no choice, and
# sets letters off by a blank, for neither is `A.M.`
OPTION = re.compile(
    r"(?:\((?P<enclosed>[A-J])\)[.:]?|(?P<bare>[A-J])\s*[.:)])(?P<text>\s+\S.*|\d.*)"
)
# `A) 3 B) 4` has two parts, `C: 40%, H: 6%` elements
ANOTHER_PART = re.compile(r"(?<![A-Za-z(])\(?[A-Z]\s*[.:)]\s*\S|^(?:and|or)\b|^[&,/]")
# `(A) \cup (B)` and `(A) + 1` are expressions
OPERATOR = re.compile(
    r"[*^_=<>|!]|[+-]\s|\\(?:cup|cap|times|cdot|div|setminus|pm|in|subset|subseteq|le|ge|ne|to)\b"
)


@dataclass(frozen=True)
class Letter:
    """The letter of a choice, in upper case."""

    letter: str


class Option(NamedTuple):
    """A choice in full: its letter, in upper case, and its text."""

    letter: str
    text: str


def read_letter(text: str) -> Letter | None:
    """The letter that a normalised text is: `B`, `(b)`, `Option B`."""
    found = LETTER.fullmatch(text)
    return Letter(found[1].upper()) if found else None


def letter_of(text: str) -> Letter | None:
    """The choice that a normalised text is or begins with: `B`, `B. 12 cm`."""
    found = LETTER_AND_TEXT.fullmatch(text)
    if found and not ANOTHER_LETTER.search(found["text"]):
        return Letter(found[1].upper())
    return read_letter(text)


def read_option(text: str) -> Option | None:
    """The choice that a normalised gold is in full; None where it may be something else."""
    found = OPTION.fullmatch(text)
    if found is None:
        return None
    content = found["text"].strip()
    if ANOTHER_PART.search(content) or OPERATOR.match(content):
        return None
    return Option(found["enclosed"] or found["bare"], content)


def without_choice(gold: str, answer: str) -> tuple[str, str]:
    """What is left to compare of two normalised texts where the gold is a choice in full.

    Of an answer that is a letter, the letters; else the texts. Where both are given, both must be
    right: with another letter, the letters are left, which differ.
    """
    option = read_option(gold)
    if option is None:
        return gold, answer
    if letter := read_letter(answer):
        return option.letter, letter.letter
    other = read_option(answer[:2].upper() + answer[2:])
    if other is None:
        return option.text, answer
    return (
        (option.letter, other.letter)
        if other.letter != option.letter
        else (option.text, other.text)
    )
