"""Numbers with units, read and compared exactly: no floats, no parser, bounded work."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

DECIMAL = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
SIGNED = rf"[+-]?\s*(?:{DECIMAL})"
PART = rf"(?:\{{\s*({SIGNED})\s*\}}|\s*(\d))"
FRACTION = re.compile(rf"(?:\\frac\s*{PART}\s*{PART}|({DECIMAL})\s*/\s*({SIGNED}))")
MIXED = re.compile(
    r"(\d+)(?:\s*\\frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}|\s*\\frac\s*(\d)\s*(\d)|"
    r"\s+(\d+)\s*/\s*(\d+))"
)
PLAIN = re.compile(
    rf"({DECIMAL})(?:\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*(?:\{{\s*([+-]?\d+)\s*\}}|([+-]?\d+))|"
    r"[eE]([+-]?\d+)(?![A-Za-z]))?"
)
LARGEST_EXPONENT = 400
WORDS = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen twenty".split()
    )
}
MULTIPLIERS = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
CURRENCIES = {"$": "dollar", "€": "euro", "£": "pound", "¥": "yen"}
NO_UNIT = {"unit", "units"}
# words after a number that make it another answer, not a number of something
NOT_UNITS = {
    "or",
    "and",
    "to",
    "by",
    "not",
    "times",
    "plus",
    "minus",
    "more",
    "less",
    "half",
    "over",
}


def _units() -> Mapping[str, tuple[str, Fraction]]:
    """Each spelling of a unit, with what it measures and how many of the first spelling it is."""
    table = {
        "length": "mm:1/1000 millimeter millimetre; cm:1/100 centimeter centimetre; dm:1/10; "
        "m:1 meter metre; km:1000 kilometer kilometre; in:127/5000 inch inches; "
        "ft:381/1250 foot feet; yd:1143/1250 yard; mi:201168/125 mile",
        "mass": "mg:1/1000 milligram; g:1 gram; kg:1000 kilogram; tonne:1000000 ton",
        "time": "ms:1/1000 millisecond; s:1 sec second; min:60 minute; h:3600 hr hour; "
        "d:86400 day; week:604800",
        "volume": "ml:1/1000 milliliter millilitre; l:1 liter litre",
        "angle": "°:1 deg degree",
        "turn": "rad:1 radian",
        "share": "%:1/100",
        "dollar": "dollar:1 usd; cent:1/100",
    }
    units = {}
    for dimension, entries in table.items():
        for entry in entries.split(";"):
            first, *others = entry.split()
            name, factor = first.split(":")
            for spelling in (name, *others):
                units[spelling] = dimension, Fraction(factor)
                if len(spelling) > 2:
                    units[spelling + "s"] = dimension, Fraction(factor)
    units |= {"hrs": units["hr"], "mins": units["min"], "secs": units["sec"]}
    return units


UNITS = _units()
UNIT = re.compile(
    r"(?P<pre>square|sq|cubic|cu)?\.?\s*(?P<name>°\s?[CFcf]?|%|[A-Za-z]+)\.?\s*"
    r"(?:\^?\s*\{?\s*(?P<power>[23])\s*\}?|(?P<post>squared|cubed))?"
)
COMPOUND = re.compile(r"[A-Za-z]+\s*(?:/|per)\s*[A-Za-z]+(?:\s*\^?\s*\{?[23]\}?)?")
COUNTED = re.compile(r"[A-Za-z]{3,}(?: [A-Za-z]{3,})?")


@dataclass(frozen=True)
class Number:
    """A number and what it counts.

    Args:
        places: digits after the point where it is written as a decimal; None for a fraction.
        significant: digits from the first that is not 0; what says how far a decimal is rounded.
        dimension: what its unit measures, or the unit itself if that is unknown; "" without unit.
        factor: what the unit is in the first of its dimension.
    """

    value: Fraction
    places: int | None = None
    significant: int = 0
    dimension: str = ""
    factor: Fraction = Fraction(1)


def read_number(text: str) -> Number | None:
    """The number that a normalised text is, with its unit; None if it is anything else."""
    text = text.strip()
    sign, text = _sign(text)
    currency = CURRENCIES.get(text[:1], "")
    text = text[1:].strip() if currency else text
    if currency and not sign:
        sign, text = _sign(text)
    found = _value(text)
    if found is None:
        return None
    value, places, significant, rest = found
    word, _, after = rest.strip().partition(" ")
    if word.lower() in MULTIPLIERS:
        value, places, rest = value * MULTIPLIERS[word.lower()], None, " " + after
    unit = ("dollar", Fraction(1)) if currency == "dollar" else (currency, Fraction(1))
    if rest.strip():
        if currency and rest.strip().lower() not in {currency, currency + "s", "usd"}:
            return None
        unit = unit if currency else _unit(rest)
    if unit is None:
        return None
    return Number(-value if sign == "-" else value, places, significant, *unit)


def same_number(gold: Number, answer: Number) -> bool:
    """Whether an answer is the gold, by value, unit and rounding.

    * Where one of the two has no unit, the numbers alone count; where both have one, they must
      measure the same, and are converted.
    * A percentage is also its hundredth: `25%` is `0.25`. Without its sign it is `25`, where the
      gold is greater than 1 or has the sign itself.
    * A gold decimal of three or more digits is taken as rounded: a fraction, or a decimal with
      more places, is the same if it rounds to it. An answer of three or more digits may round a
      gold fraction that has no end as a decimal. All else is exact.
    """
    if "share" in (gold.dimension, answer.dimension) and gold.dimension != answer.dimension:
        if gold.dimension not in ("", "share") or answer.dimension not in ("", "share"):
            return False
        if gold.value * gold.factor == answer.value * answer.factor:
            return True
        bare = gold.dimension == "share" or gold.value > 1
        return bare and gold.value == answer.value
    if gold.dimension and answer.dimension:
        if gold.dimension != answer.dimension:
            return False
        if gold.factor != answer.factor:
            return gold.value * gold.factor == answer.value * answer.factor
    return gold.value == answer.value or _rounded(gold, answer)


def is_unit(text: str) -> bool:
    """Whether a normalised text is a unit of the table, such as `cm` or `cm^2`."""
    found = UNIT.fullmatch(text)
    return bool(found) and found["name"].lower() in UNITS


def _rounded(gold: Number, answer: Number) -> bool:
    difference = abs(gold.value - answer.value)
    if gold.places and gold.significant >= 3:
        finer = answer.places is None or answer.places > gold.places
        return finer and difference * 2 * 10**gold.places <= 1
    if gold.places is None and answer.places and answer.significant >= 3:
        return _endless(gold.value) and difference * 2 * 10**answer.places <= 1
    return False


def _endless(value: Fraction) -> bool:
    """Whether a fraction goes on forever as a decimal."""
    rest = value.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    return rest > 1


def _sign(text: str) -> tuple[str, str]:
    return (text[0], text[1:].strip()) if text[:1] in ("+", "-") else ("", text)


def _value(text: str) -> tuple[Fraction, int | None, int, str] | None:
    """Value, places, significant digits and what follows; None if a text begins with no number."""
    if found := MIXED.match(text):
        whole, *parts = (int(part) for part in found.groups() if part is not None)
        above, below = parts
        if below == 0 or above >= below:
            return None
        return Fraction(whole * below + above, below), None, 0, text[found.end() :]
    if found := FRACTION.match(text):
        above, below = (_exact(part) for part in found.groups() if part is not None)
        if below == 0:
            return None
        return above / below, None, 0, text[found.end() :]
    if found := PLAIN.match(text):
        digits, *exponents = found.groups()
        exponent = next((part for part in exponents if part is not None), "0")
        if len(exponent) > 5 or abs(int(exponent)) > LARGEST_EXPONENT:
            return None
        places = len(digits.partition(".")[2])
        significant = len(digits.replace(",", "").replace(".", "").lstrip("0"))
        value = _exact(digits) * Fraction(10) ** int(exponent)
        # rounding is read off plain decimals only
        plain = next((part for part in exponents if part is not None), None) is None
        return value, places if plain else None, significant, text[found.end() :]
    word, _, rest = text.partition(" ")
    if word.lower() in WORDS:
        return Fraction(WORDS[word.lower()]), None, 0, " " + rest
    return None


def _exact(digits: str) -> Fraction:
    return Fraction(digits.replace(",", "").replace(" ", ""))


def _unit(text: str) -> tuple[str, Fraction] | None:
    """Dimension and factor of a unit, known or not; None if a text is none."""
    spaced, text = text[0] == " ", text.strip()
    low = text.lower()
    if text in CURRENCIES:
        return CURRENCIES[text], Fraction(1)
    if low in NO_UNIT or low in ("square units", "sq units", "cubic units"):
        return "", Fraction(1)
    found = UNIT.fullmatch(text)
    if found:
        name = found["name"].replace(" ", "").lower()
        powers = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}
        power = int(found["power"] or powers.get(found["pre"] or found["post"], 1))
        if name in UNITS and (spaced or not (len(name) == 1 and name.isalpha())):  # `5m` is 5·m
            dimension, factor = UNITS[name]
            return dimension if power == 1 else f"{dimension}^{power}", factor**power
        if name in ("°c", "°f"):
            return name, Fraction(1)
    if COMPOUND.fullmatch(text):
        return re.sub(r"\s*per\s*", "/", low).replace(" ", "").replace("{", ""), Fraction(1)
    if COUNTED.fullmatch(text) and not NOT_UNITS & set(low.split()):
        return low.removesuffix("s"), Fraction(1)
    return None
