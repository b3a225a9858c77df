"""Files beside the page: figures and tables; and hostile text in a real browser."""

import csv
import json
import re

import pytest
from chromium import Browser, chromium
from PIL import Image

from sightline.report import write_report
from sightline.report.tables import Table, in_markdown, write_tables

HOSTILE = [
    "<script>document.documentElement.id='owned'</script>",
    "</style><script>document.documentElement.id='owned'</script>",
    "</script><script>document.documentElement.id='owned'</script>",
    "<img src=x onerror=\"document.documentElement.id='owned'\">",
    '" onmouseover="document.documentElement.id=\'owned\'" x="',
    "javascript:document.documentElement.id='owned'",
    "<svg onload=\"document.documentElement.id='owned'\">",
    "<base href='http://example.org'><meta http-equiv=refresh content=0>",
    "\u202egnp.exe\u2066",
    "nul \0 in it",
    "x" * 10**6,
]


def write_run(folder, tokens):
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(folder / "images" / "a.png")
    text = "".join(tokens)
    row = {
        "id": text[:500], "prompt": text, "images": ["images/a.png", tokens[0]], "response": text,
        "gold": tokens[0], "tokens": tokens, "reward": 1.0, "labels": tokens, "split": "heldout",
        "dependency": [0.5 * n for n in range(len(tokens))],
        "views": {tokens[0]: {"log_ratio": [-1.0] * len(tokens)}},
        "credit": {tokens[0]: [1.0] * len(tokens)},
    }  # fmt: skip
    (folder / "tokens.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "run.json").write_text(
        json.dumps({"command": text[:2000], "algorithm": {"name": tokens[0]}})
    )
    metrics = [{"step": step, "reward": 0.1 * step} for step in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(m) + "\n" for m in metrics))
    return folder


@pytest.mark.skipif(chromium() is None, reason="needs chromium")
def test_hostile_text_is_inert_in_a_browser_and_our_script_runs(tmp_path):
    page = write_report(write_run(tmp_path / "run", HOSTILE))
    with Browser() as browser:
        browser.open(page)
        dom = browser.run("document.documentElement.outerHTML")

    assert re.search(r"<html[^>]*>", dom)[0] == '<html lang="en">'
    assert '<form class="controls">' in dom  # the script took "hidden" away: its hash is right
    assert len(re.findall(r"<script", dom)) == 1 and "<base" not in dom
    assert len(re.findall(r'<i class="[^"]*" title=|<i title=', dom)) == len(HOSTILE)


def test_figures_in_three_formats_and_tables(tmp_path):
    folders = [write_run(tmp_path / name, ["see", " red", "=1+1", "\ud800"]) for name in "ab"]
    written = []
    for folder in folders:
        write_report(folder, exports=True)
        files = sorted((folder / "report").rglob("*.*"))
        written.append({path.name: path.read_bytes() for path in files})
    folder = folders[0]
    assert written[0] == written[1]  # same input, same bytes
    names = {path.name for path in (folder / "report" / "figures").iterdir()}

    assert {f"{name}.{ending}" for name in ("reward", "histogram", "position", "token-classes")
            for ending in ("svg", "pdf", "png")} <= names  # fmt: skip
    with Image.open(folder / "report" / "figures" / "histogram.png") as picture:
        assert picture.width == 5.6 * 200
    svg = (folder / "report" / "figures" / "reward.svg").read_text()
    assert "#2b6a99" in svg and "var(" not in svg  # its own colours: there is no page around it
    with (folder / "report" / "tables" / "tokens.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["token"] for row in rows] == ["see", " red", "'=1+1", "?"]
    assert [row["dependency"] for row in rows] == ["0.0", "0.5", "1.0", "1.5"]


def test_a_bar_in_a_cell_of_markdown_is_text():
    found = in_markdown(Table("t", ["a", "b"], [["x|y", None], [1, "z"]]))
    assert found == "| a | b |\n|---|---|\n| x\\|y | None |\n| 1 | z |"


def test_formulas_in_tables_are_text(tmp_path):
    write_tables([Table("t", ["=a"], [["@x"], ["-1"], [-1.5], [None], ["a,\nb"]])], tmp_path)

    assert (tmp_path / "t.csv").read_text() == '\'=a\n\'@x\n\'-1\n-1.5\n""\n"a,\nb"\n'
