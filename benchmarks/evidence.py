"""The tables and figures of docs/evidence.md, from the result sets that are committed.

    python benchmarks/evidence.py

Fills in what stands between `<!-- NAME -->` and `<!-- end -->`: in `docs/evidence.md` what came out
of the result set `NAME.jsonl`, in `docs/evidence-tables.md` all its other tables, every cell among
them; of `views` and `gradients` their own. Figures go to `docs/evidence/`.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from credit_gradients import table as gradients_table
from dependency_views import by_task
from dependency_views import table as views_table

from sightline.compare.page import content_of, head_in_markdown, tables_in_markdown, write_page
from sightline.compare.results import read_results

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "testbed"
PAGE, TABLES = ROOT / "docs" / "evidence.md", ROOT / "docs" / "evidence-tables.md"
FIGURES = {  # of a result set
    "sparsity": ("dose.svg", "differences-digits-sum-48-free.svg"),
    "breadth-slow": ("over-tasks.svg",),
}


def main() -> None:
    for page, made in ((PAGE, tables), (TABLES, other_tables)):
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"<!-- (?!end)(\S+) -->", text):
            pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
            filled = made(name) + "\n"
            text = re.sub(pattern, lambda m, f=filled: m[1] + f + m[2], text, flags=re.S)
        page.write_text(text, encoding="utf-8")
    for results, figures in FIGURES.items():
        with tempfile.TemporaryDirectory() as folder:
            write_page(read_results(RESULTS / f"{results}.jsonl"), Path(folder))
            for name in figures:
                shutil.copy(Path(folder) / "figures" / name, ROOT / "docs" / "evidence" / name)


def tables(name: str) -> str:
    """In Markdown, with the headings they need."""
    if name in ("views", "gradients"):
        runs = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["runs"]
        if name == "gradients":
            return "\n\n".join(
                f"{run}:\n\n{gradients_table(found['rules'])}" for run, found in runs.items()
            )
        first, found = next(iter(runs.items()))
        return (
            f"{first}:\n\n{views_table(found['views'])}\n\n"
            f"Precision by the exact KL:\n\n{by_task(runs, 'precision_kl')}"
        )
    content = _content(name)
    head = head_in_markdown(content).replace("\n## ", "\n### ")
    return "\n\n".join([head, *_by_task(content, _is_outcome)])


def other_tables(name: str) -> str:
    """Of a result set, what `tables` leaves out."""
    return "\n\n".join(_by_task(_content(name), lambda table: not _is_outcome(table)))


@cache
def _content(name: str) -> dict[str, Any]:
    return content_of(read_results(RESULTS / f"{name}.jsonl"))


def _is_outcome(table: str) -> bool:
    return table.startswith("outcomes-")


def _by_task(content: Mapping[str, Any], wanted: Callable[[str], bool]) -> list[str]:
    return [f"### {task}\n\n{text}" for task, text in tables_in_markdown(content, wanted).items()]


if __name__ == "__main__":
    main()
