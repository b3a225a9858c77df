"""The report of a comparison: one HTML file, the same in Markdown, figures and tables as files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .. import tasks
from ..report.drawing import Drawing, save_drawings
from ..report.formats import MINUS, clean, percent, plain, signed
from ..report.tables import Table, in_markdown, write_tables
from .figures import AXES, curves, differences, dose
from .hypotheses import SHARES, Hypothesis, Verdict, judge_all
from .registration import status
from .results import ResultSet
from .statistics import FEWEST, holm
from .suite import Suite
from .summary import Overall, Standing, over_tasks, standings

HERE = Path(__file__).parent
STYLE = HERE.parent / "report" / "style.css"
OVER_TASKS = (
    "The tasks in which something has to be read are the sample, each with its mean over the seeds "
    "it was run on. Variants of one task share pictures and questions: where some are among them, "
    "the interval is too narrow for what another task would give."
)


def write_page(results: ResultSet, folder: Path) -> Path:
    """Write `report.html`, `report.md`, `figures/` and `tables/` into `folder`.

    Everything is made from the result set alone; the same set gives the same bytes.

    Returns:
        The HTML file.
    """
    found = standings(results)
    sections = [_section(results, task, found) for task in results.suite.tasks]
    headline = dose(visual_shares(results.suite.tasks), found)
    overall = over_tasks(results)
    failures = [cell for cell in results.cells if "failure" in cell]
    verdicts = judge_all(results)
    across = None
    if overall:
        title = "Over all tasks: difference of each rule from the reference"
        across = differences("over-tasks", title, overall, "tasks")
    content = {
        "about": results.about,
        "registration": status(results.about["registration"], results.suite),
        "hypotheses": _verdicts(verdicts),
        "suite": results.suite,
        "headline": headline,
        "overall": _over_tasks(overall, results.suite),
        "across": across,
        "over_tasks": OVER_TASKS,
        "sections": sections,
        "failures": failures,
        "missing": len(list(results.suite.cells())) - len(results.cells),
        "starts": _shared_starts(results.suite),
        "few": sorted({s.rule for s in found if len(s.seeds) < FEWEST}),
        "fewest": FEWEST,
    }
    environment = Environment(
        loader=FileSystemLoader([HERE, STYLE.parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
    folder.mkdir(parents=True, exist_ok=True)
    drawings = [headline, across, *(drawn for s in sections for drawn in s["drawings"])]
    save_drawings([drawn for drawn in drawings if drawn], folder / "figures")
    tables = [table for section in sections for table in section["tables"]]
    if overall:
        tables.append(content["overall"])
    if verdicts:
        tables.append(content["hypotheses"])
    write_tables(tables, folder / "tables")
    text = environment.get_template("page.html").render(content)
    (folder / "report.html").write_text(text, encoding="utf-8")
    (folder / "report.md").write_text(_markdown(content), encoding="utf-8")
    return folder / "report.html"


def _shared_starts(suite: Suite) -> int | None:
    """How many starting weights the seeds of a task share; None where each has its own."""
    starts = {suite.protocol.start(seed) for seed in suite.seeds}
    return len(starts) if len(starts) < len(suite.seeds) else None


def visual_shares(names: Sequence[str]) -> dict[str, float]:
    """Of the variants of `digits-sum` with free filler, the share of the words that matter.

    Only they differ in nothing but that share.
    """
    shares = {}
    for name in names:
        if name.startswith("digits-sum-") and name.endswith("-free"):
            row = tasks.load(name).rows(1)[0]
            shares[name] = (len(row["reads"]) + 1) / row["length"]
    return shares


def _section(results: ResultSet, task: str, found: Sequence[Standing]) -> dict[str, Any]:
    of_task = [standing for standing in found if standing.task == task]
    drawn: list[Drawing | None] = []
    if any(standing.difference for standing in of_task):
        title = f"{task}: difference of each rule from the reference"
        drawn.append(differences(f"differences-{task}", title, of_task))
    drawn += [curves(results, task, of_task, "accuracy", "accuracy", axis) for axis in AXES]
    drawn += [
        curves(results, task, of_task, "precision_kl", "precision of dependency (exact KL)"),
        curves(results, task, of_task, "auroc_k3", "AUROC of dependency (k3)"),
    ]
    return {
        "task": task,
        "standings": of_task,
        "drawings": [piece for piece in drawn if piece],
        "tables": [
            _outcomes(task, of_task),
            _parts(task, of_task),
            _changes(task, of_task),
            _updates(task, of_task),
            _costs(task, of_task),
        ],
    }


def _verdicts(verdicts: Sequence[Verdict]) -> Table:
    header = ("hypothesis", "says", "verdict", "found (95 %)", "p, Holm", "sample", "expected")
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


def _over_tasks(overall: Sequence[Overall], suite: Suite) -> Table:
    """Every rule's difference over the tasks, and on each of them."""
    named = [task for task in suite.tasks if any(task in one.means for one in overall)]
    header = ("rule", "tasks", "over the reference (95 %)", "p, Holm", *named)
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
        "over the reference (95 %)", "p, Holm", "of the oracle's gain", "of its lead",
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
    names = {
        "reading": "all words read right",
        "reasoning": "answer follows from what was read",
        "in_grammar": "in the grammar",
        "twin_accuracy": "both twins right",
        "auroc_k3": "AUROC, k3",
        "auroc_kl": "AUROC, exact KL",
        "precision_k3": "precision, k3",
        "precision_kl": "precision, exact KL",
    }
    rows = [
        (
            s.rule,
            *(f"{_number(s.first[name])} → {_number(s.last[name])}" for name in names),
        )
        for s in found
    ]
    return Table(f"parts-{task}", ("rule", *names.values()), rows)


def _changes(task: str, found: Sequence[Standing]) -> Table:
    """Whether the measure keeps finding what must be read while the policy trains on it."""
    names = {
        "precision_kl": "precision, exact KL",
        "precision_k3": "precision, k3",
        "auroc_k3": "AUROC, k3",
    }
    header = [f"{name}: {of}" for name in names.values() for of in ("change", "over the reference")]
    rows = []
    for s in found:
        changes = [change for name in names for change in s.changes[name]]
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


def _markdown(content: Mapping[str, Any]) -> str:
    about, suite = content["about"], content["suite"]
    lines = [
        f"# {suite.name}: credit rules compared",
        "",
        f"{content['registration']['status']}. {content['registration']['said']} "
        f"`{about['command']}`, {about['machine']}, "
        + ", ".join(f"{name} {version}" for name, version in about["versions"].items()),
        "",
    ]
    if content["starts"]:
        lines += [f"Starting weights that the seeds of a task share: {content['starts']}.", ""]
    lines += [f"Failed: {len(content['failures'])} cells; not run: {content['missing']}.", ""]
    if content["hypotheses"].rows:
        lines += [
            "## What was expected, and what came out",
            "",
            in_markdown(content["hypotheses"]),
            "",
        ]
    if content["headline"]:
        lines += ["![Gain over the reference](figures/dose.svg)", ""]
    if content["across"]:
        lines += ["## Over all tasks", "", OVER_TASKS, "", in_markdown(content["overall"]), ""]
        lines += ["![Over all tasks](figures/over-tasks.svg)", ""]
    for section in content["sections"]:
        lines += [f"## {section['task']}", ""]
        for table in section["tables"]:
            lines += [in_markdown(table), ""] if table.rows else []
        lines += [f"![{d.name}](figures/{d.name}.svg)" for d in section["drawings"]] + [""]
    return "\n".join(lines)


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
