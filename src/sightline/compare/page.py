"""The report of a comparison: one HTML file, the same in Markdown, figures and tables as files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .. import tasks
from ..report.drawing import COLOURS, Drawing, save_drawings
from ..report.formats import clean
from ..report.tables import in_markdown, write_tables
from .figures import AXES, curves, differences, dose
from .hypotheses import judge_all
from .registration import status
from .result_tables import hypotheses_table, over_tasks_table, tables_of
from .results import ResultSet, cell_of, last_words
from .statistics import FEWEST
from .suite import Suite
from .summary import over_tasks, standings

HERE = Path(__file__).parent
STYLE = HERE.parent / "report" / "style.css"
OVER_TASKS = (
    "The tasks in which something has to be read are the sample, each with its mean over the seeds "
    "it was run on. Variants of one task share pictures and questions: where some are among them, "
    "the interval is too narrow for what another task would give."
)


def content_of(results: ResultSet) -> dict[str, Any]:
    """All that a report says, from the result set alone; its figures apart."""
    found, overall = standings(results), over_tasks(results)
    failures = [cell for cell in results.cells if "failure" in cell]
    sections = []
    for task in results.suite.tasks:
        of_task = [standing for standing in found if standing.task == task]
        tables = tables_of(results, task, of_task)
        sections.append({"task": task, "standings": of_task, "tables": tables})
    return {
        "about": results.about,
        "registration": status(results.about["registration"], results.suite),
        "hypotheses": hypotheses_table(judge_all(results)),
        "suite": results.suite,
        "standings": found,
        "overall": overall,
        "overall_table": over_tasks_table(overall, results.suite),
        "overall_said": OVER_TASKS,
        "sections": sections,
        "failures": [(cell_of(cell).name, last_words(cell["failure"])) for cell in failures],
        "missing": len(list(results.suite.cells())) - len(results.cells),
        "starts": _shared_starts(results.suite),
        "few": sorted({s.rule for s in found if len(s.seeds) < FEWEST}),
        "fewest": FEWEST,
    }


def write_page(results: ResultSet, folder: Path) -> Path:
    """Write `report.html`, `report.md`, `figures/` and `tables/` into `folder`.

    The same result set gives the same bytes.

    Returns:
        The HTML file.
    """
    content = content_of(results)
    drawings = _draw(results, content)
    environment = Environment(
        loader=FileSystemLoader([HERE, STYLE.parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
    folder.mkdir(parents=True, exist_ok=True)
    said = f"{content['registration']['status'].lower()}, suite {results.suite.name}"
    for drawn in drawings:  # a file is seen without the page that says this at its top
        drawn.figure.supxlabel(said, x=1, ha="right", fontsize=6, color=COLOURS["muted"])
    save_drawings(drawings, folder / "figures")
    tables = [table for section in content["sections"] for table in section["tables"]]
    tables += [content["overall_table"]] if content["overall"] else []
    tables += [content["hypotheses"]] if content["hypotheses"].rows else []
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

    Those are the words read and the one that concludes; the variants differ in nothing else.
    """
    shares = {}
    for name in names:
        if name.startswith("digits-sum-") and name.endswith("-free"):
            row = tasks.load(name).rows(1)[0]
            shares[name] = (len(row["reads"]) + 1) / row["length"]
    return shares


def _draw(results: ResultSet, content: dict[str, Any]) -> list[Drawing]:
    """Add the figures to what a report says, and return them."""
    content["headline"] = dose(visual_shares(results.suite.tasks), content["standings"])
    content["overall_figure"] = None
    if content["overall"]:
        title = "Over all tasks: difference of each rule from the reference"
        content["overall_figure"] = differences("over-tasks", title, content["overall"], "tasks")
    drawings = [content["headline"], content["overall_figure"]]
    for section in content["sections"]:
        task, found = section["task"], section["standings"]
        drawn: list[Drawing | None] = []
        if any(standing.difference for standing in found):
            title = f"{task}: difference of each rule from the reference"
            drawn.append(differences(f"differences-{task}", title, found))
        drawn += [curves(results, task, found, "accuracy", "accuracy", axis) for axis in AXES]
        drawn += [
            curves(results, task, found, "precision_kl", "precision of dependency (exact KL)"),
            curves(results, task, found, "auroc_k3", "AUROC of dependency (k3)"),
        ]
        section["drawings"] = [piece for piece in drawn if piece]
        drawings += section["drawings"]
    return [drawn for drawn in drawings if drawn]


def head_in_markdown(content: Mapping[str, Any]) -> str:
    """How it came about, the hypotheses, and what holds over all tasks."""
    about = content["about"]
    said = f"{content['registration']['status']}. {content['registration']['said']} "
    said += f"`{about['command']}`, {about['machine']}, "
    said += ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    parts = [said]
    if content["starts"]:
        parts.append(f"Starting weights that the seeds of a task share: {content['starts']}.")
    parts.append(f"Failed: {len(content['failures'])} cells; not run: {content['missing']}.")
    if content["hypotheses"].rows:
        parts += ["## What was expected, and what came out", in_markdown(content["hypotheses"])]
    if content["overall"]:
        parts += ["## Over all tasks", OVER_TASKS, in_markdown(content["overall_table"])]
    return "\n\n".join(parts)


def tables_in_markdown(
    content: Mapping[str, Any], wanted: Callable[[str], bool] = lambda name: True
) -> dict[str, str]:
    """Per task its tables, those whose name is `wanted`."""
    return {
        section["task"]: "\n\n".join(
            in_markdown(table) for table in section["tables"] if table.rows and wanted(table.name)
        )
        for section in content["sections"]
    }


def _markdown(content: Mapping[str, Any]) -> str:
    parts = [f"# {content['suite'].name}: credit rules compared", head_in_markdown(content)]
    for drawn in (content["headline"], content["overall_figure"]):
        parts += [f"![{drawn.name}](figures/{drawn.name}.svg)"] if drawn else []
    tables = tables_in_markdown(content)
    for section in content["sections"]:
        parts += [f"## {section['task']}", tables[section["task"]]]
        parts += [f"![{d.name}](figures/{d.name}.svg)" for d in section["drawings"]]
    return "\n\n".join(filter(None, parts)) + "\n"
