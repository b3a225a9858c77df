"""Mean dependency by class of token: digits, colours, connectives, …, by a file of rules."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..charts import bars
from ..records import Response
from ..runs import Run
from ..statistics import mean_interval
from ..tables import Table

DEFAULT = Path(__file__).parents[1] / "token_classes.toml"
REST = "none of these"
LONGEST = 200  # letters; a longer token matches no pattern, so that no pattern runs for long
SEARCHED = 100_000  # letters of a response in which ``inside`` is searched


@dataclass(frozen=True)
class Rule:
    """One class of tokens; a token that fits any of the four ways belongs to it."""

    name: str
    labels: frozenset[str]
    words: frozenset[str]
    pattern: re.Pattern[str] | None
    inside: re.Pattern[str] | None


def read_rules(path: Path) -> list[Rule]:
    """The rules of a TOML file, in its order.

    Raises:
        ValueError: it is no TOML, has an unknown key, or a pattern that is no regular expression.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not readable as TOML: {error}") from error
    entries = content.get("class")
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise ValueError(f"{path} has no [[class]]; each class of tokens is one such table")
    return [read_rule(path, entry) for entry in entries]


def read_rule(path: Path, entry: Mapping[str, Any]) -> Rule:
    known = {"name", "labels", "words", "pattern", "inside"}
    if unknown := sorted(entry.keys() - known):
        raise ValueError(f"{path}: unknown key {unknown[0]!r}; a class takes {sorted(known)}")
    if not isinstance(entry.get("name"), str):
        raise ValueError(f"{path}: a class needs a name, got {entry.get('name')!r}")
    lists: dict[str, frozenset[str]] = {}
    for key in ("labels", "words"):
        value = entry.get(key, [])
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise ValueError(f"{path}: {key} of {entry['name']!r} must be a list of text")
        lists[key] = frozenset(value)
    compiled: dict[str, re.Pattern[str] | None] = {}
    for key in ("pattern", "inside"):
        try:
            compiled[key] = re.compile(entry[key]) if key in entry else None
        except (re.error, TypeError) as error:
            raise ValueError(f"{path}: {key} of {entry['name']!r}: {error}") from error
    words = frozenset(word.lower() for word in lists["words"])
    return Rule(entry["name"], lists["labels"], words, compiled["pattern"], compiled["inside"])


def classify(response: Response, rules: Sequence[Rule]) -> list[str]:
    """The class of each token of a response."""
    tokens = response.tokens
    labels = response.labels or [""] * len(tokens)
    words = whole_words(tokens)
    inside = [tokens_inside(tokens, rule.inside) for rule in rules]
    classes = []
    for index, (token, word, label) in enumerate(zip(tokens, words, labels, strict=True)):
        for rule, places in zip(rules, inside, strict=True):
            if (
                label in rule.labels
                or word.lower() in rule.words
                or index in places
                or fits(rule.pattern, word)
                or fits(rule.pattern, token.strip())
            ):
                classes.append(rule.name)
                break
        else:
            classes.append(REST)
    return classes


def fits(pattern: re.Pattern[str] | None, text: str) -> bool:
    return pattern is not None and len(text) <= LONGEST and bool(pattern.fullmatch(text))


def whole_words(tokens: Sequence[str]) -> list[str]:
    """For each token the word it is part of: a letter after a letter continues a word."""
    starts: list[int] = []
    for index, token in enumerate(tokens):
        joins = index and token[:1].isalpha() and tokens[index - 1][-1:].isalpha()
        starts.append(starts[-1] if joins else index)
    words: dict[int, list[str]] = {}
    for token, start in zip(tokens, starts, strict=True):
        words.setdefault(start, []).append(token)
    joined = {start: "".join(parts).strip() for start, parts in words.items()}
    return [joined[start] for start in starts]


def tokens_inside(tokens: Sequence[str], pattern: re.Pattern[str] | None) -> set[int]:
    """The places of tokens that overlap a group of ``pattern`` in the text of all tokens."""
    if pattern is None:
        return set()
    text = "".join(tokens)[:SEARCHED]
    spans = [
        match.span(group)
        for match in pattern.finditer(text)
        for group in range(1, (pattern.groups or 0) + 1)
        if match[group]
    ]
    ends = np.cumsum([len(token) for token in tokens])
    found: set[int] = set()
    for start, end in spans:
        first, last = np.searchsorted(ends, [start, end - 1], side="right")
        found.update(range(int(first), int(last) + 1))
    return found


def token_classes(run: Run, rules: Sequence[Rule]) -> dict[str, Any]:
    """Mean dependency with its interval and the share of all dependency, for each class."""
    names = [*dict.fromkeys(rule.name for rule in rules), REST]
    if not run.counted:
        return {}
    sums, counts = np.zeros((2, len(run.counted), len(names)))
    for row, response in enumerate(run.counted):
        found = classify(response, rules)
        for name, value in zip(found, response.dependency or [], strict=True):
            if value is not None:
                sums[row, names.index(name)] += value
                counts[row, names.index(name)] += 1
    total = float(sums.sum())
    rows = [
        (
            name,
            int(counts[:, place].sum()),
            float(sums[:, place].sum() / counts[:, place].sum()),
            *mean_interval(sums[:, place], counts[:, place]),
            float(sums[:, place].sum()) / total if total else None,
        )
        for place, name in enumerate(names)
        if counts[:, place].any()
    ]
    header = ["class", "tokens", "mean", "low", "high", "share_of_dependency"]
    return {
        "figure": bars(
            "token-classes",
            "Mean dependency by class of token",
            {name: (mean, low, high) for name, _, mean, low, high, _ in rows},
            "mean dependency, nats",
            " nats",
        ),
        "rows": rows,
        "table": Table("token_classes", header, rows),
    }
