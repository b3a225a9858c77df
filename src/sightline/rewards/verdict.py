"""Is the answer of a response the right one: a verdict first, and only then a float."""

import importlib.util
import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .extraction import EXTRACTORS, gold_answer
from .formats import text_of
from .golds import for_algebra, same_answer
from .kinds import Expression, read_answer
from .normalisation import LONGEST, normalise
from .workers import Outcome, Workers

GOLDS_VERSION = 2  # of what counts as the same answer; goes up when a verdict changes
logger = logging.getLogger(__name__)


class Verdict(StrEnum):
    """What verification says of a response."""

    MATCHED = "matched"
    DIFFERENT = "different"
    NO_ANSWER = "no_answer"  # the extractor found none
    UNPARSEABLE = "unparseable"  # the answer is not mathematics, and the gold is
    TIMED_OUT = "timed_out"  # no result within the deadline
    RAISED = "raised"  # the gold cannot be read, or the verifier failed


# An error has no reward: TRL leaves such a row out, where 0 would say that the answer was wrong.
REWARDS = {
    Verdict.MATCHED: 1.0,
    Verdict.DIFFERENT: 0.0,
    Verdict.NO_ANSWER: 0.0,
    Verdict.UNPARSEABLE: 0.0,
    Verdict.TIMED_OUT: None,
    Verdict.RAISED: None,
}


@dataclass
class Verifier:
    """A reward function for TRL: 1 for the right answer, 0 for another, None for an error.

    Takes the row's gold from the column `answer`, or else `solution`. Exact code decides numbers,
    choice letters, words, times and tuples (`golds.py`); what is left goes to math-verify, in
    worker processes with a deadline. Counts by verdict are logged at every step, as shares of the
    batch, and summed up in `counts`.

    Args:
        extractor: name of the way to find the answer in a response; one of `EXTRACTORS`.
        deadline: seconds that math-verify has for one answer.
        workers: processes for math-verify.
    """

    extractor: str = "boxed-last"
    deadline: float = 2.0
    workers: int = 2
    counts: Counter[Verdict] = field(default_factory=Counter, init=False)

    def __post_init__(self) -> None:
        if self.extractor not in EXTRACTORS:
            raise ValueError(
                f"extractor must be one of {', '.join(EXTRACTORS)}, got {self.extractor!r}"
            )
        self.__name__ = "accuracy"  # what TRL calls it in the log

    def __call__(
        self,
        completions: Sequence[Any],
        answer: Sequence[Any] | None = None,
        solution: Sequence[Any] | None = None,
        log_metric: Any = None,
        log_extra: Any = None,
        **columns: Any,
    ) -> list[float | None]:
        golds = solution if answer is None else answer
        if golds is None:
            raise ValueError(
                "accuracy needs the right answers: a column `answer` or `solution`, got "
                f"{', '.join(sorted(columns)) or 'none'}"
            )
        known = ["" if gold is None else str(gold) for gold in golds]  # without one: `raised`
        verdicts = self.verdicts([text_of(c) for c in completions], known)
        log(self.__name__, verdicts, list(Verdict), log_metric, log_extra)
        return [REWARDS[verdict] for verdict in verdicts]

    def verdicts(self, responses: Sequence[str], golds: Sequence[str]) -> list[Verdict]:
        """The verdict on each response.

        Raises:
            ImportError: math-verify is not installed.
        """
        if importlib.util.find_spec("math_verify") is None:
            raise ImportError(
                "verifying answers needs math-verify: pip install 'sightline[rewards]'"
            )
        find = EXTRACTORS[self.extractor].find
        decided: list[Verdict | tuple[str, str]] = [
            _decide(find(response), gold) for response, gold in zip(responses, golds, strict=True)
        ]
        # the responses to one prompt often give the same answer
        open_pairs = list(dict.fromkeys(pair for pair in decided if isinstance(pair, tuple)))
        if open_pairs:
            tasks = [{"golds": [gold], "answers": [answer]} for gold, answer in open_pairs]
            outcomes = math_verify_workers(self.deadline, self.workers).run(tasks)
            found = dict(zip(open_pairs, map(_verdict_of, outcomes), strict=True))
            decided = [found[item] if isinstance(item, tuple) else item for item in decided]
        verdicts = [item for item in decided if isinstance(item, Verdict)]
        self.counts.update(verdicts)
        return verdicts

    def start(self, golds: Iterable[str]) -> bool:
        """Begin to start math-verify, which takes seconds, if one of `golds` is left to it.

        Returns:
            Whether it has begun.
        """
        begun = importlib.util.find_spec("math_verify") is not None and any(map(_is_open, golds))
        if begun:
            math_verify_workers(self.deadline, self.workers).start()
        return begun

    def description(self) -> dict[str, Any]:
        """What decides its verdicts, for the record of a run."""
        extractor = EXTRACTORS[self.extractor]
        return {
            "extractor": {"name": extractor.name, "version": extractor.version},
            "golds": GOLDS_VERSION,
            "math-verify": version("math-verify"),
            "deadline": self.deadline,
        }


accuracy = Verifier()


def verify(response: str, gold: str, extractor: str = "boxed-last") -> Verdict:
    """The verdict on one response; `Verifier` judges many at once."""
    return Verifier(extractor).verdicts([response], [gold])[0]


@cache
def math_verify_workers(deadline: float, count: int) -> Workers:
    """The workers that run math-verify; those of one deadline are shared."""
    file = Path(__file__).with_name("by_math_verify.py")
    return Workers("by_math_verify", "compare", file=file, deadline=deadline, count=count)


def log(
    name: str, kinds: Sequence[str], all_kinds: Sequence[str], log_metric: Any, log_extra: Any
) -> None:
    """Hand TRL the share of each kind in a batch, and each row's kind for its completions table."""
    counts = Counter(kinds)
    for kind in all_kinds if log_metric else ():
        log_metric(f"{name}/{kind}", counts[kind] / max(1, len(kinds)))
    if log_extra:
        log_extra(f"{name}/verdict", [str(kind) for kind in kinds])


def _decide(answer: str | None, gold: str) -> Verdict | tuple[str, str]:
    """A verdict, or gold and answer for math-verify."""
    try:
        gold = normalise(gold_answer(gold))
    except ValueError:
        gold = ""
    if not gold:
        logger.warning("a gold is empty or longer than %d characters: no reward", LONGEST)
        return Verdict.RAISED
    if answer is None or not answer.strip():
        return Verdict.NO_ANSWER
    try:
        answer = normalise(answer)
    except ValueError:
        return Verdict.UNPARSEABLE
    same = same_answer(gold, answer) if answer else False
    if same is None:
        return for_algebra(gold, answer)
    return Verdict.MATCHED if same else Verdict.DIFFERENT


def _is_open(gold: str) -> bool:
    """Whether exact code cannot read a gold, so that math-verify has to compare it."""
    try:
        return isinstance(read_answer(normalise(gold_answer(gold))), Expression)
    except ValueError:  # longer than any
        return False


def _verdict_of(outcome: Outcome) -> Verdict:
    if outcome.kind == "timed_out":
        return Verdict.TIMED_OUT
    if outcome.kind == "not_finite":  # NaN
        return Verdict.UNPARSEABLE
    if outcome.kind == "number":
        return Verdict.MATCHED if math.isclose(outcome.number, 1) else Verdict.DIFFERENT
    logger.warning("math-verify failed (%s): %s", outcome.kind, outcome.message)
    return Verdict.RAISED
