"""The tables and figures of docs/evidence.md, from the result sets that are committed.

    python benchmarks/evidence.py

Fills in what stands between `<!-- NAME -->` and `<!-- end -->` in the page: of a result set
`NAME.jsonl` its tables (of `breadth` and `breadth-slow`, which have many tasks, the first two of
each), of `views` and `gradients` theirs. Figures go to `docs/evidence/`.
"""

import json
import re
import shutil
import tempfile
from pathlib import Path

from credit_gradients import table as gradients_table
from dependency_views import by_task
from dependency_views import table as views_table

from sightline.compare.page import write_page
from sightline.compare.results import read_results

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "testbed"
OTHERS = r"\| rule \| (?!tasks|learning rate|all words)"  # tables left out where tasks are many
PAGE = ROOT / "docs" / "evidence.md"
FIGURES = {  # of a result set
    "sparsity": ("dose.svg", "differences-digits-sum-48-free.svg"),
    "breadth-slow": ("over-tasks.svg",),
}


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in re.findall(r"<!-- (?!end)(\S+) -->", text):
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda m, n=name: m[1] + tables(n) + "\n" + m[2], text, flags=re.S)
    PAGE.write_text(text, encoding="utf-8")
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
    with tempfile.TemporaryDirectory() as folder:
        write_page(read_results(RESULTS / f"{name}.jsonl"), Path(folder))
        lines = (Path(folder) / "report.md").read_text(encoding="utf-8").splitlines()
    kept = "\n".join(line for line in lines if not line.startswith(("# ", "![")))
    blocks = re.split(r"\n{2,}", kept.replace("\n## ", "\n### ").strip("\n"))
    if name.startswith("breadth"):
        blocks = [block for block in blocks if not re.match(OTHERS, block)]
    return "\n\n".join(blocks)


if __name__ == "__main__":
    main()
