"""One spelling for the many that models and data sets have of the same answer."""

import re
import unicodedata

LONGEST = 1000  # characters of an answer; none of visual mathematics comes near

# What NFKC would get wrong: it makes 52 of 5² and 31⁄2 of 3½.
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
VULGAR = re.compile("([¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])")
CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("−–—‐‑‒﹣", "-"),
        **dict.fromkeys("º˚", "°"),
        **dict.fromkeys("’‘′", "'"),
        "×": "\\times ",
        "·": "\\cdot ",
        "⋅": "\\cdot ",
        "÷": "/",
        "⁄": "/",
        "∕": "/",
        "π": "\\pi ",
        "θ": "\\theta ",
        "∞": "\\infty ",
        "≤": "\\le ",
        "≥": "\\ge ",
        "≠": "\\ne ",
        "≈": "\\approx ",
        "±": "\\pm ",
        "∪": "\\cup ",
        "∩": "\\cap ",
        "∠": "\\angle ",
    }
)
ROOT = re.compile(r"√\s*(?:\(([^()√]*)\)|(\d+|[A-Za-z]))")
STYLE = r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|mbox|operatorname|rm|bf)\*?"
STYLED = re.compile(STYLE + r"\s*\{([^{}]*)\}")
THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|,?\\[,!])(?=\d{3}(?!\d))")
# digits in threes; `1 200/300` is a mixed number
SPACED = re.compile(r"(?<![\w.,^/})\]])\d{1,3}(?: \d{3})+(?![\d/]| ?(?:/|\\frac))")
REPLACED = [
    (re.compile(r"\\(?:left|right|bigl?|bigr?|Bigl?|Bigr?|displaystyle|limits)(?![A-Za-z])"), ""),
    (re.compile(r"\\[,;:!> ]|~|\\(?:quad|qquad|enspace|thinspace)(?![A-Za-z])"), " "),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (
        re.compile(r"\^\s*\{\s*(?:\\circ|\\degree|°)\s*\}|\^?\s*(?:\\circ|\\degree)(?![A-Za-z])"),
        "°",
    ),
    (re.compile(r"\s*\^?\s*°\s*"), "° "),
    (re.compile(r"\\%|(?<![A-Za-z])per\s?cent(?![A-Za-z])"), "%"),
    (re.compile(r"\\\$"), "$"),
    (re.compile(r"\\(?:leq|leqslant)(?![A-Za-z])"), r"\\le"),
    (re.compile(r"\\(?:geq|geqslant)(?![A-Za-z])"), r"\\ge"),
    (re.compile(r"\\lbrace(?![A-Za-z])"), r"\\{"),
    (re.compile(r"\\rbrace(?![A-Za-z])"), r"\\}"),
    (re.compile(r"(?<!\\)\{\s+"), "{"),
    (re.compile(r"\s+\}"), "}"),
    (re.compile(r"\s+"), " "),
]
LEADING_EQUALS = re.compile(r"^=\s*(?=[^\s=<>])")  # `= 12`; an arrow stays
WRAPPERS = [("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("`", "`")]


def normalise(text: str) -> str:
    """An answer in one spelling: plain characters, no LaTeX that only styles, no wrapping.

    Unicode's compatible characters become plain (full-width digits, `−`, `½`, `5²`, `√2`), digits
    of every script 0 to 9, degrees `°`; `\\text{}`, `\\left`, spacing commands, `$…$` around the
    whole and a full stop at its end go; `\\dfrac` becomes `\\frac`, `1{,}000` and `1\\,000` 1000.

    Raises:
        ValueError: `text` is longer than any answer; nothing is done with it.
    """
    if len(text) > LONGEST:
        raise ValueError(f"an answer has at most {LONGEST} characters, got {len(text)}")
    text = re.sub(r"\s+", " ", _characters(text))
    text = THOUSANDS.sub("", _unwrapped(text))
    for _ in range(3):  # styles within styles
        text = STYLED.sub(r" \1 ", text)
    for pattern, new in REPLACED:
        text = pattern.sub(new, text)
    text = SPACED.sub(lambda found: found[0].replace(" ", ""), text)
    return LEADING_EQUALS.sub("", _unwrapped(text))


def squeezed(text: str) -> str:
    """A normalised answer without spaces but between digits, for comparison as text."""
    return re.sub(r"(?<!\d) | (?!\d)", "", text)


def _characters(text: str) -> str:
    text = RAISED.sub(lambda found: "^{" + found[0].translate(SUPERSCRIPTS) + "}", text)
    text = VULGAR.sub(r" \1", text).translate(CHARACTERS)
    text = unicodedata.normalize("NFKC", text).translate(CHARACTERS)
    text = "".join(
        str(unicodedata.digit(c)) if unicodedata.category(c) == "Nd" else c
        for c in text
        if unicodedata.category(c) != "Cf"  # marks of direction, zero-width spaces
    )
    return ROOT.sub(lambda found: "\\sqrt{" + (found[1] or found[2] or "") + "}", text)


def _unwrapped(text: str) -> str:
    """Without what encloses all of it, and without punctuation at its end."""
    before = None
    while text != before:
        before = text = text.strip()
        if not text.endswith(("\\,", "\\;", "\\:", "\\.", "...")):
            text = text.rstrip(".,;: ")
        for opening, closing in WRAPPERS:
            inside = text[len(opening) : len(text) - len(closing)]
            if text.startswith(opening) and text.endswith(closing) and inside.strip():
                if opening not in inside and closing not in inside:
                    text = inside
        if text.startswith("{") and _closing_brace(text) == len(text) - 1:
            text = text[1:-1]
    return text


def _closing_brace(text: str) -> int:
    """Where the brace that `text` begins with is closed; -1 where it is not."""
    depth = 0
    for index, character in enumerate(text):
        if text[index - 1 : index] != "\\":
            depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return index
    return -1
