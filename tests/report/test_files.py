"""Files beside the page: figures and tables; and the page in a real browser."""

import csv
import html
import json
import re
import shutil
import subprocess

import pytest
from PIL import Image

from sightline.report import write_report
from sightline.report.tables import Table, write_tables

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
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


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_hostile_text_is_inert_in_a_browser_and_our_script_runs(tmp_path):
    page = write_report(write_run(tmp_path / "run", HOSTILE))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
               f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, timeout=120, check=True).stdout.decode()

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


def test_formulas_in_tables_are_text(tmp_path):
    write_tables([Table("t", ["=a"], [["@x"], ["-1"], [-1.5], [None], ["a,\nb"]])], tmp_path)

    assert (tmp_path / "t.csv").read_text() == '\'=a\n\'@x\n\'-1\n-1.5\n""\n"a,\nb"\n'


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_tint_order_filter_and_search_in_a_browser(tmp_path):
    folder = write_run(tmp_path / "run", ["a", "b"])
    rows = [
        {"id": f"r{n}", "images": ["images/a.png"], "tokens": [word, " x"], "response": word,
         "dependency": [1.0, 0.0], "reward": reward, "split": "heldout",
         "views": {"blind": {"log_ratio": [-0.1, 10.0]}}}
        for n, (word, reward) in enumerate([("red", 1.0), ("blue", 2), ("red", 3.0), ("red", 0.0)])
    ]  # fmt: skip
    (folder / "tokens.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_report(folder).read_text()
    act = """
    const set = (name, value, event) => {
      const control = document.querySelector(`[name=${name}]`);
      control.value = value;
      control.dispatchEvent(new Event(event));
    };
    document.getElementById("responses").scrollIntoView();
    set("order", "reward", "change"); set("verdict", "0", "change"); set("search", "RED", "input");
    set("mode", "1", "change");
    setTimeout(() => {
      const shown = [...document.querySelectorAll(".response")].filter((c) => c.checkVisibility());
      const tokens = [...shown[0].querySelectorAll(".tokens i")].map((i) => i.className);
      document.documentElement.lang = JSON.stringify([
        shown.map((c) => c.querySelector(".identity").textContent.trim()), tokens,
        document.querySelector("output").textContent]);
    }, 1000);"""
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    (tmp_path / "acted.html").write_text(page.replace("</body>", f"<script>{act}</script></body>"))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
               "--virtual-time-budget=3000", f"--user-data-dir={tmp_path / 'profile'}",
               (tmp_path / "acted.html").as_uri()]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, timeout=120, check=True).stdout.decode()
    found = json.loads(html.unescape(re.search(r'<html lang="([^"]*)"', dom)[1]))

    # -0.1 is a third of the way from 0.01 to 10, below 0; 10 is the end of the scale; 1 is above
    assert found == [["r2", "r0"], ["t5 cold above", "t15"], "2 of 2 matching responses shown"]
