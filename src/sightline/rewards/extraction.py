"""Response → the answer in it, each way with a name and a version for the record of a run.

Golds that have words around their answer are read here too.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

BRACE = re.compile(r"\\boxed\{|[{}]")
# a last line such as `B`, `(B)`, `**B**`, `B. 12 cm` or `The answer is (B).`
LETTER_LINE = re.compile(
    r"(?:the\s+)?(?:(?:final|correct|right)\s+)?(?:(?:answer|option|choice)\s*(?:is|:)?\s*:?\s*)?"
    r"\(?(?P<letter>[A-Z])(?:\)?[.:,]?|[).:]\s.*)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Extractor:
    """A way to find the answer of a response.

    Args:
        version: goes up when an answer is found where none was, or another one.
        find: gives the answer, stripped, or None where the response gives none.
    """

    name: str
    version: int
    find: Callable[[str], str | None]


def boxed(text: str) -> str | None:
    """The content of the last complete `\\boxed{}`, braces inside it balanced; None without one.

    In one pass: a response of a million opening braces costs what its length does.
    """
    opened: list[int | None] = []  # where the content of a box begins; None for other braces
    begin, end = -1, -1
    for brace in BRACE.finditer(text):
        if brace.group() == "{":
            opened.append(None)
        elif brace.group() != "}":
            opened.append(brace.end())
        elif opened:
            start = opened.pop()
            if start is not None and start > begin:
                begin, end = start, brace.start()
    return text[begin:end].strip() if begin >= 0 else None


def tagged(text: str) -> str | None:
    """The content of the last `<answer> … </answer>`, or of the last box in it if there is one."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    if start < 0:
        return None
    content = text[start + len("<answer>") : end].strip()
    inside = boxed(content)
    return content if inside is None else inside


def choice_letter(text: str) -> str | None:
    """The choice letter that the last line consists of or begins with, in upper case."""
    line = text.rstrip().rpartition("\n")[2].strip("*_ \t")
    found = LETTER_LINE.fullmatch(line) if len(line) <= 200 else None
    return found["letter"].upper() if found else None


def gold_answer(gold: str) -> str:
    """The answer in a gold: in its answer tags, behind its last `####`, or all of it."""
    inside = tagged(gold)
    if inside is None:
        inside = gold.rpartition("####")[2].strip()
    return inside or gold


EXTRACTORS = {
    extractor.name: extractor
    for extractor in (
        Extractor("boxed-last", 1, boxed),
        Extractor("answer-tag", 1, tagged),
        Extractor("letter", 1, choice_letter),
    )
}
