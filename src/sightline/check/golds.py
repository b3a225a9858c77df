"""Whether the verifier accepts each row's own gold, refuses another's, and refuses the prompt."""

from collections.abc import Callable, Sequence

import numpy as np

from ..rewards import Verdict, Verifier, exact_answer, gold_answer, think_format
from .findings import PROBLEM, WARNING, Finding, with_summary
from .rows import Facts

SHUFFLED = 0.05  # the share of wrong golds from which on acceptance is a problem
Judge = Callable[[Sequence[str], Sequence[str]], Sequence[Verdict]]


def exact(responses: Sequence[str], golds: Sequence[str]) -> list[Verdict]:
    """The verdicts of `exact_answer`, which judges the built-in tasks."""
    rewards = exact_answer(responses, list(golds))
    return [Verdict.MATCHED if reward else Verdict.DIFFERENT for reward in rewards]


def judge_of(extractor: str | None) -> Judge:
    """The verifier that reads answers so, or that of the built-in tasks for None."""
    return exact if extractor is None else Verifier(extractor).verdicts


def start_early(rows: list[Facts], extractor: str | None) -> bool:
    """Start math-verify beside what is still to be read, if a gold needs it; whether it was."""
    return extractor is not None and Verifier(extractor).start(row.gold for row in rows)


def rendered(gold: str, extractor: str | None, thinks: bool = False) -> str:
    """The shortest response that answers `gold`, as the prompt's extractor reads answers.

    Args:
        thinks: with the empty thought that the format reward asks for.
    """
    gold = gold if extractor is None else gold_answer(gold)
    if extractor == "answer-tag":
        answer = f"<answer>{gold}</answer>"
    elif extractor == "letter":
        answer = gold
    else:
        answer = f"\\boxed{{{gold}}}"
    return f"<think> </think> {answer}" if thinks else answer


def check_golds(rows: list[Facts], extractor: str | None, thinks: bool) -> list[Finding]:
    """All checks of the rewards.

    Args:
        extractor: of the prompt, or None for the built-in tasks.
        thinks: whether the format is rewarded too.

    Raises:
        ImportError: the verifier is not installed.
    """
    judge = judge_of(extractor)
    return [
        *accepted(rows, judge, extractor),
        *shuffled(rows, judge, extractor),
        *(well_formed(rows, extractor) if thinks else []),
        *prompt_alone(rows, judge, thinks),
    ]


def accepted(rows: list[Facts], judge: Judge, extractor: str | None) -> list[Finding]:
    """Golds that are no right answer to their own row: it can never be rewarded."""
    verdicts = judge([rendered(r.gold, extractor) for r in rows], [r.gold for r in rows])
    found = [
        Finding(
            PROBLEM,
            "golds.accepted",
            f"its gold {row.gold[:80]!r} given as the answer is judged {verdict}",
            "write the gold as the verifier reads it, or use another prompt: docs/rewards.md",
            row.id,
        )
        for row, verdict in zip(rows, verdicts, strict=True)
        if verdict != Verdict.MATCHED
    ]
    right = len(rows) - len(found)
    return with_summary(
        "golds.accepted",
        found,
        f"the gold given as the answer scores 1.0 on all {len(rows):,} rows",
        f"the gold given as the answer scores 1.0 on {right:,} of {len(rows):,} rows only",
        {"rows": len(rows), "accepted": right},
    )


def shuffled(rows: list[Facts], judge: Judge, extractor: str | None) -> list[Finding]:
    """Other rows' golds that are accepted as answers; rows whose golds are alike are left out."""
    order = np.random.default_rng(0).permutation(len(rows))
    pairs = [(rows[i], rows[j]) for i, j in zip(order, np.roll(order, 1), strict=True)]
    pairs = [(row, other) for row, other in pairs if row.gold.strip() != other.gold.strip()]
    if not pairs:
        return [Finding(WARNING, "golds.shuffled", "all golds are alike: nothing to tell apart")]
    verdicts = judge(
        [rendered(other.gold, extractor) for _, other in pairs], [row.gold for row, _ in pairs]
    )
    wrong = [p for p, verdict in zip(pairs, verdicts, strict=True) if verdict == Verdict.MATCHED]
    share = len(wrong) / len(pairs)
    found = [
        Finding(
            PROBLEM if share > SHUFFLED else WARNING,
            "golds.shuffled",
            f"its gold is {row.gold[:80]!r}, and {other.gold[:80]!r}, that of row {other.id!r}, is "
            "accepted as well",
            "if the two are not the same answer, write the gold more exactly",
            row.id,
        )
        for row, other in wrong
    ]
    said = f"other rows' golds are accepted on {share:.1%} of {len(pairs):,} rows"
    numbers = {"rows": len(pairs), "accepted": len(wrong), "share": share}
    # equal texts are alike without being read: another answer shows whether a gold can be
    unread = [
        Finding(
            PROBLEM,
            "golds.accepted",
            f"its gold {row.gold[:80]!r} cannot be compared with another answer: {verdict}",
            "write the answer alone, without words around it: docs/rewards.md",
            row.id,
        )
        for (row, _), verdict in zip(pairs, verdicts, strict=True)
        if verdict == Verdict.RAISED
    ]
    return [*unread, *with_summary("golds.shuffled", found, said, said, numbers)]


def well_formed(rows: list[Facts], extractor: str | None) -> list[Finding]:
    """Golds that keep a right answer from the format reward: whose braces do not close."""
    rewards = think_format([rendered(row.gold, extractor, thinks=True) for row in rows])
    found = [
        Finding(
            WARNING,
            "golds.format",
            f"its gold {row.gold[:80]!r} in a box does not earn the format reward",
            "close its braces, or reward accuracy only: --reward_weights 1 0",
            row.id,
        )
        for row, reward in zip(rows, rewards, strict=True)
        if reward != 1
    ]
    return with_summary(
        "golds.format",
        found,
        "a right answer earns the format reward on every row",
        f"a right answer cannot earn the format reward on {len(found):,} of {len(rows):,} rows",
        {"rows": len(rows), "without": len(found)},
    )


def prompt_alone(rows: list[Facts], judge: Judge, thinks: bool) -> list[Finding]:
    """Prompts that would be rewarded themselves, and with them whoever repeats them."""
    questions = [row.question for row in rows]
    verdicts = judge(questions, [row.gold for row in rows])
    formats = think_format(questions) if thinks else [0.0] * len(rows)
    found = []
    for row, verdict, form in zip(rows, verdicts, formats, strict=True):
        earned = ["as the right answer"] if verdict == Verdict.MATCHED else []
        earned += ["by the format"] if form else []
        if earned:
            found.append(
                Finding(
                    PROBLEM,
                    "golds.prompt",
                    f"its prompt alone, given as the response, is rewarded {' and '.join(earned)}",
                    "change the words of the prompt, or the prompt format",
                    row.id,
                )
            )
    return with_summary(
        "golds.prompt",
        found,
        "no prompt alone is rewarded",
        f"prompts that are rewarded alone: {len(found):,} of {len(rows):,}",
        {"rows": len(rows), "rewarded": len(found)},
    )


def unchecked(error: ImportError) -> Finding:
    """What to say where the verifier is not installed."""
    what = f"the golds were not checked: {error}"
    return Finding(WARNING, "golds.accepted", what, "install it and check again")
