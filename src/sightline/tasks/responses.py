"""Responses whose every word is known to be read, concluded or free.

The thinking is exactly `length` words. Clauses of three words read the picture (`left shows
three`), two words conclude (`makes eleven`), a full stop ends it, and all between is filler::

    <think> hm we slowly peer left shows three okay i right reads eight makes eleven . </think>
    \\boxed{11}

How surprising the filler is can be set, because text that a policy writes with probability near 1
has almost no policy gradient: re-weighting it changes nothing.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log2

import numpy as np

from .digits import NUMBERS

# Filler goes round these slots; the first word of each is its favourite.
SLOTS = [
    words.split()
    for words in (
        "hm okay well now then sure ah yes",
        "i we you they people everyone someone anyone",
        "slowly carefully quickly calmly gently closely simply really",
        "look peer stare gaze glance study squint wonder",
        "at over around upon into across past beyond",
        "here there shapes lines marks edges shades tones",
    )
]
VERBS = "shows is holds reads seems looks appears has".split()
CONCLUSIONS = "makes equals totals yields hence thus overall altogether".split()
CHOICES = 8  # in every slot, so that every filler word carries the same entropy

# The probability that a free word is not its slot's favourite; 7/8 makes all eight equally likely.
SURPRISE = {"free": 7 / 8, "low": 0.04}

_RESPONSE = re.compile(r"\s*<think>(?P<thought>[^<>\\]*)</think>\s*\\boxed\{(?P<box>\d+)\}\s*")


def bits_per_filler_word(filler: str) -> float:
    """Entropy, in bits, of a filler word given its place: 3 for `free`, 0.35 for `low`."""
    surprise = _surprise(filler)
    rest = surprise / (CHOICES - 1)
    return -(1 - surprise) * log2(1 - surprise) - surprise * log2(rest)


def compose(
    reads: Mapping[str, str],
    result: str,
    box: str,
    rng: np.random.Generator,
    *,
    length: int,
    filler: str,
    leading: int = 0,
) -> str:
    """A response that reads `reads` and concludes `result`.

    With `low` filler the clauses come in order and evenly spaced, so that only the few unlikely
    words are left to chance. What is drawn from `rng` does not depend on the words read.

    Args:
        reads: what each marker (`left`, `first`, ...) shows.
        box: what stands in the box, in digits.
        length: of the thinking, in words.
        filler: a key of `SURPRISE`.
        leading: how many of the clauses always come first; the others are shuffled.
    """
    surprise = _surprise(filler)
    slack = length - 3 * len(reads) - 3
    if slack < 0:
        raise ValueError(f"length must be at least {length - slack} for this task, got {length}")
    markers = list(reads)
    if filler == "free":
        markers[leading:] = rng.permutation(markers[leading:]).tolist()
        cuts = np.sort(rng.integers(0, slack + 1, len(markers)))
    else:
        cuts = np.arange(1, len(markers) + 1) * slack // (len(markers) + 1)
    around = SLOTS * (slack // len(SLOTS) + 1)
    words: list[Sequence[str]] = []  # each a choice, of one word where there is none
    for marker, gap in zip(markers, np.diff(cuts, prepend=0).tolist(), strict=True):
        words += [*around[:gap], [marker], VERBS, [reads[marker]]]
    words += [*around[: slack - int(cuts[-1])], CONCLUSIONS, [result], ["."]]
    others = rng.integers(1, CHOICES, len(words)) * (rng.random(len(words)) < surprise)
    drawn = " ".join(
        choice[other if len(choice) > 1 else 0]
        for choice, other in zip(words, others.tolist(), strict=True)
    )
    return f"<think> {drawn} </think> \\boxed{{{box}}}"


@dataclass(frozen=True)
class Parsed:
    """What a response says: the word beside each marker, and the labelled character ranges."""

    reads: dict[str, str]
    spans: list[tuple[int, int, str]]


def parse(
    response: str, vocabulary: Mapping[str, Sequence[str]], *, visual: bool = True
) -> Parsed | None:
    """`response` taken apart, or None where it leaves the grammar.

    Of all words that are a marker, a word some marker may show, or a number, there must be: each
    marker once, each followed by one of its own words, then one number that concludes.

    Args:
        vocabulary: the words that each marker may show.
        visual: False where the words are read from the question, not from the picture.
    """
    match = _RESPONSE.fullmatch(response)
    if match is None:
        return None
    known = {*vocabulary, *NUMBERS, *(word for words in vocabulary.values() for word in words)}
    found = [word for word in re.finditer(r"\w+", match["thought"]) if word[0] in known]
    *clauses, result = found or [match]
    reads = {}
    for marker, word in zip(clauses[::2], clauses[1::2], strict=False):
        if word[0] not in vocabulary.get(marker[0], ()):
            return None
        reads[marker[0]] = word[0]
    complete = len(clauses) == 2 * len(reads) and reads.keys() == vocabulary.keys()
    if not complete or result[0] not in NUMBERS:
        return None
    start = match.start("thought")
    spans = [(start + word.start(), start + word.end(), "visual") for word in clauses[1::2]]
    answer = [(start + result.start(), start + result.end(), "answer")]
    answer.append((*match.span("box"), "answer"))
    return Parsed(reads, (spans if visual else []) + answer)


@dataclass(frozen=True)
class Grammar:
    """The responses of one task: the functions of its module that follow from its words.

    Args:
        vocabulary: the words that each marker may show, in the order of a row's `reads`.
        look_alikes: what a careless annotator takes a word for.
        solve: the answer, in digits, from a question and the words read.
        visual: False where the words are read from the question, not from the picture.
        leading: how many words are always read first; the others come in any order.
    """

    vocabulary: Mapping[str, Sequence[str]]
    look_alikes: Mapping[str, str]
    solve: Callable[[str, Sequence[str]], str]
    visual: bool = True
    leading: int = 0

    def demonstration(self, row: dict, rng: np.random.Generator) -> str:
        """One correct response to `row`."""
        return compose(
            self._reads(row),
            NUMBERS[int(row["answer"])],
            row["answer"],
            rng,
            length=row["length"],
            filler=row["filler"],
            leading=self.leading,
        )

    def transcription(self, row: dict, rng: np.random.Generator) -> str:
        """The shortest correct response: each marker and its word, and what follows from them."""
        reads = self._reads(row)
        markers = list(reads)
        markers[self.leading :] = rng.permutation(markers[self.leading :]).tolist()
        said = "".join(f" {marker} {reads[marker]}" for marker in markers)
        return f"{said} {NUMBERS[int(row['answer'])]}"

    def misread(self, row: dict, rng: np.random.Generator, rate: float) -> dict:
        """`row` as a careless annotator tells it: at `rate`, a word is taken for its look-alike."""
        reads = [
            self.look_alikes[word] if word in self.look_alikes and rng.random() < rate else word
            for word in row["reads"]
        ]
        return {**row, "reads": reads, "answer": self.solve(row["question"], reads)}

    def spans(self, response: str) -> list[tuple[int, int, str]] | None:
        """The words read are `visual`, the concluding number and the box `answer`; or None."""
        parsed = parse(response, self.vocabulary, visual=self.visual)
        return parsed and parsed.spans

    def readings(self, response: str) -> tuple[str, ...] | None:
        """The words that `response` says it reads, in the order of `reads`, or None."""
        parsed = parse(response, self.vocabulary)
        return parsed and tuple(parsed.reads[marker] for marker in self.vocabulary)

    def reading_accuracy(self, rows: Sequence[dict], texts: Sequence[str]) -> float:
        """Share of responses that say every word right; one outside the grammar says none."""
        right = [
            self.readings(text) == tuple(row["reads"])
            for row, text in zip(rows, texts, strict=True)
        ]
        return sum(right) / max(len(right), 1)

    def _reads(self, row: dict) -> dict[str, str]:
        return dict(zip(self.vocabulary, row["reads"], strict=True))


def corpus(questions: Iterable[str], vocabulary: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Every word that a prompt or a response can hold, for the tokenizer."""
    free = (word for words in (*SLOTS, VERBS, CONCLUSIONS) for word in words)
    read = (word for words in vocabulary.values() for word in words)
    asked = [question.split() for question in questions]
    for word in (*free, *read, *vocabulary, *NUMBERS, ".", *(w for words in asked for w in words)):
        yield f" {word}"
    yield from (words[0] for words in asked)  # the first word of a prompt has no space before it
    yield from ("<think>", " </think>", " \\boxed{0}", "user\n", "assistant\n")


def _surprise(filler: str) -> float:
    if filler not in SURPRISE:
        raise ValueError(f"filler must be one of {sorted(SURPRISE)}, got {filler!r}")
    return SURPRISE[filler]
