"""The tables of a comparison: what the report, its files and the evidence show."""

from collections.abc import Sequence
from typing import Any

from ..report.formats import MINUS, percent, plain, signed
from ..report.tables import Table
from .figures import AXES
from .hypotheses import SHARES, Hypothesis, Verdict
from .results import ResultSet, last_words
from .statistics import holm
from .suite import Suite
from .summary import MEASURES, OUTCOME, Overall, Standing

TITLES = {  # by what reports call it
    "reading": "all words read right",
    "reasoning": "answer follows from what was read",
    "in_grammar": "in the grammar",
    "twin_accuracy": "both twins right",
    "auroc_k3": "AUROC, k3",
    "auroc_kl": "AUROC, exact KL",
    "precision_k3": "precision, k3",
    "precision_kl": "precision, exact KL",
}
AFTER = ("reading", "reasoning", "in_grammar", "precision_kl")  # of every single cell


def tables_of(results: ResultSet, task: str, found: Sequence[Standing]) -> list[Table]:
    """Of one task, the first about outcomes, the last with every cell.

    Args:
        found: how every rule does on it.
    """
    return [
        _outcomes(task, found),
        _parts(task, found),
        _changes(task, found),
        _updates(task, found),
        _costs(task, found),
        _cells(results, task),
    ]


def hypotheses_table(verdicts: Sequence[Verdict]) -> Table:
    header = (
        "hypothesis",
        "says",
        "verdict",
        "found (95 %)",
        "p, Holm over hypotheses",
        "sample",
        "expected",
    )
    corrected = holm({v.hypothesis.name: v.p for v in verdicts if v.p is not None})
    rows = [
        (
            verdict.hypothesis.name,
            verdict.hypothesis.says,
            verdict.said,
            _found(verdict),
            "" if verdict.p is None else plain(corrected[verdict.hypothesis.name], 2),
            _sample(verdict),
            _expected(verdict.hypothesis),
        )
        for verdict in verdicts
    ]
    return Table("hypotheses", header, rows)


def _sample(verdict: Verdict) -> str:
    if verdict.hypothesis.over_tasks:
        return f"{verdict.sample} of {len(verdict.hypothesis.tasks)} tasks"
    return f"{verdict.sample} seed{'' if verdict.sample == 1 else 's'}"


def _found(verdict: Verdict) -> str:
    if verdict.mean is None:
        return ""
    if verdict.hypothesis.number in SHARES:
        return _points(verdict.mean, verdict.low, verdict.high)
    ends = "" if verdict.low is None else f" ({verdict.low:+.3g} to {verdict.high:+.3g})"
    return f"{verdict.mean:+.3g}{ends}".replace("-", MINUS)


def _expected(hypothesis: Hypothesis) -> str:
    of = "change of " if hypothesis.of == "change" else ""
    first, second = hypothesis.rules
    place = "all tasks" if hypothesis.over_tasks else " more than on ".join(hypothesis.tasks)
    scale, unit = (100, " points") if hypothesis.number in SHARES else (1, "")
    margin = f"{scale * hypothesis.margin:.3g}{unit}"
    how = {
        "above": f"above it by more than {margin}" if hypothesis.margin else "above it",
        "below": f"below it by more than {margin}" if hypothesis.margin else "below it",
        "within": f"within {margin} of it",
    }[hypothesis.expect]
    return f"{of}{hypothesis.number}, {first} over {second} on {place}: {how}"


def over_tasks_table(overall: Sequence[Overall], suite: Suite) -> Table:
    """Every rule's difference over the tasks, and on each of them."""
    named = [task for task in suite.tasks if any(task in one.means for one in overall)]
    header = ("rule", "tasks", "over the reference (95 %)", "p, Holm over rules", *named)
    rows = [
        (
            one.rule,
            len(one.means),
            _points(one.difference.mean, one.difference.low, one.difference.high),
            "" if one.p is None else plain(one.p, 2),
            *(signed(one.means[task]) if task in one.means else "" for task in named),
        )
        for one in overall
    ]
    return Table("over-tasks", header, rows)


def _outcomes(task: str, found: Sequence[Standing]) -> Table:
    header = (
        "rule", "learning rate", "seeds", "failed", "before", "after", "gain (95 %)",
        "over the reference (95 %)", "p, Holm over rules", "of the oracle's gain", "of its lead",
    )  # fmt: skip
    rows = [
        (
            s.rule,
            f"{s.rate:g}",
            len(s.seeds),
            s.failed,
            percent(s.first["accuracy"]),
            percent(s.last["accuracy"]),
            _points(*s.gain),
            _points(s.difference.mean, s.difference.low, s.difference.high) if s.difference else "",
            "" if s.p is None else plain(s.p, 2),
            _share(s.headroom),
            _share(s.strict),
        )
        for s in found
    ]
    return Table(f"outcomes-{task}", header, rows)


def _parts(task: str, found: Sequence[Standing]) -> Table:
    """Reading and reasoning apart, twins, and what the measure finds, before and after."""
    rows = [
        (
            s.rule,
            *(f"{_number(s.first[name])} → {_number(s.last[name])}" for name in TITLES),
        )
        for s in found
    ]
    return Table(f"parts-{task}", ("rule", *TITLES.values()), rows)


def _changes(task: str, found: Sequence[Standing]) -> Table:
    """Whether the measure keeps finding what must be read while the policy trains on it."""
    header = [
        f"{TITLES[name]}: {of}" for name in MEASURES for of in ("change", "over the reference")
    ]
    rows = []
    for s in found:
        changes = [change for name in MEASURES for change in s.changes[name]]
        if any(changes):
            rows.append((s.rule, *(_points(*change) if change else "" for change in changes)))
    return Table(f"changes-{task}", ("rule", *header), rows)


def _updates(task: str, found: Sequence[Standing]) -> Table:
    """What the updates were like: means over training and seeds."""
    names = {
        "grad_norm": "gradient norm before clipping",
        "weights/largest": "largest weight",
        "weights/effective_tokens": "effective tokens",
        "weights/top10_share": "weight on the heaviest tenth",
        "completions/mean_length": "tokens of a response",
        "frac_reward_zero_std": "groups without variance",
        "entropy": "entropy, nats",
        "completions/clipped_ratio": "cut off",
    }
    rows = [
        (s.rule, *("n/a" if (v := s.training.get(name)) is None else plain(v, 3) for name in names))
        for s in found
        if s.training
    ]
    return Table(f"updates-{task}", ("rule", *names.values()), rows)


def _costs(task: str, found: Sequence[Standing]) -> Table:
    rows = [
        (s.rule, *(plain(round(s.last[name] or 0), 6) for name in ("tokens", "passes", "seconds")))
        for s in found
    ]
    return Table(f"costs-{task}", ("rule", *AXES.values()), rows)


def _cells(results: ResultSet, task: str) -> Table:
    """Every cell by itself, those that failed with the last words of the reason."""
    suite = results.suite
    rate = results.best_rate(task, suite.reference)
    reference = results.outcome(task, suite.reference, rate, OUTCOME)
    header = (
        "rule", "learning rate", "seed", "starting weights", "before", "after",
        "over the reference", *(TITLES[name] for name in AFTER), "seconds", "failed",
    )  # fmt: skip
    rows = []
    for cell in results.cells:
        if cell["task"] != task:
            continue
        seed = cell["seed"]
        row = [cell["rule"], f"{cell['learning_rate']:g}", seed, suite.protocol.start(seed)]
        if "failure" in cell:
            blank = [""] * (len(header) - len(row) - 1)
            rows.append([*row, *blank, last_words(cell["failure"])])
            continue
        first, last = cell["points"][0], cell["points"][-1]
        row += [percent(first[OUTCOME]), percent(last[OUTCOME])]
        compares = cell["rule"] != suite.reference and seed in reference
        row += [signed(last[OUTCOME] - reference[seed]) if compares else ""]
        row += [_number(last[name]) for name in AFTER]
        rows.append([*row, plain(round(last["seconds"] or 0), 6), ""])
    return Table(f"cells-{task}", header, rows)


def _points(value: float, low: float | None, high: float | None) -> str:
    if low is None:
        return signed(value)
    return f"{signed(value)} ({signed(low)} to {signed(high)})"


def _share(share: Any) -> str:
    if share is None:
        return ""
    return f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
