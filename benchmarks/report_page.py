"""How large the page of `sightline report` is, how fast it opens, how smoothly it scrolls.

    python benchmarks/report_page.py --name now

makes a run of 1,000 responses of 300 tokens, each with a picture of its own, and opens its report
in headless Chromium (software rendering), at desktop and at phone width. All responses are
unfolded; then the page scrolls by three quarters of a window on each of 150 frames, which brings
new responses into sight on every one, and the time between frames is taken. Adds the numbers to
`benchmarks/results/report.json` under the name given.
"""

import argparse
import json
import random
import tempfile
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

from chromium import Browser
from PIL import Image

from sightline.report import write_report

RESULTS = Path(__file__).parent / "results" / "report.json"
WORDS = (
    "the a of is to and sum so left right image shows number seven red square first then".split()
)
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
WORK = {"all": "TaskDuration", "style": "RecalcStyleDuration", "layout": "LayoutDuration",
        "script": "ScriptDuration"}  # fmt: skip
UNFOLD = """
document.querySelectorAll('details.more').forEach((one) => { one.open = true; });
document.querySelector('.controls button')?.click();
document.getElementById('responses').scrollIntoView();
document.querySelectorAll('.response').length
"""
SCROLL = """
new Promise((done) => {
  const times = [];
  let last = performance.now();
  const frame = (now) => {
    times.push(now - last);
    last = now;
    scrollBy({ top: innerHeight * 0.75, behavior: 'instant' });
    if (times.length < 151) requestAnimationFrame(frame); else done(times.slice(1));
  };
  requestAnimationFrame(frame);
})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--name", required=True, help="under which the numbers are kept")
    parser.add_argument("--responses", type=int, default=1_000)
    parser.add_argument("--tokens", type=int, default=300)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder), args.responses, args.tokens)
        start = perf_counter()
        page = write_report(run)
        found: dict[str, Any] = {
            "responses": args.responses,
            "tokens": args.tokens,
            "seconds_to_write": round(perf_counter() - start, 2),
            "megabytes": round(page.stat().st_size / 1e6, 2),
        }
        for name, size in SIZES.items():
            found[name] = measure(page, size)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(known | {args.name: found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def measure(page: Path, size: tuple[int, int]) -> dict[str, Any]:
    """Seconds to open, and milliseconds between frames while it scrolls unfolded."""
    with Browser(*size) as browser:
        browser.send("Performance.enable", timeDomain="threadTicks")
        start = perf_counter()
        browser.open(page)
        browser.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        opened = perf_counter() - start
        shown = browser.run(UNFOLD)
        elements = browser.run("document.querySelectorAll('*').length")
        browser.run("new Promise((done) => setTimeout(done, 1500))")
        before = work(browser)
        times = browser.run(SCROLL)
        spent = {name: value - before[name] for name, value in work(browser).items()}
    return {
        "seconds_to_open": round(opened, 2),
        "responses_shown": shown,
        "frame_ms_median": round(median(times), 1),
        "frame_ms_95": round(quantiles(times, n=20)[-1], 1),
        "frame_ms_largest": round(max(times), 1),
        "cpu_ms_per_frame": {n: round(1000 * s / len(times), 1) for n, s in spent.items()},
        "elements": elements,
    }


def work(browser: Browser) -> dict[str, float]:
    """CPU seconds of the page's main thread so far, of which style, layout and scripts."""
    metrics = browser.send("Performance.getMetrics")["metrics"]
    found = {metric["name"]: metric["value"] for metric in metrics}
    return {name: found[key] for name, key in WORK.items()}


def write_run(folder: Path, responses: int, tokens: int) -> Path:
    """Made-up responses, dependency as skewed as real ones are: most tokens are near 0."""
    draw = random.Random(0)
    (folder / "images").mkdir()
    with (folder / "tokens.jsonl").open("w") as file:
        for number in range(responses):
            name = f"images/{number}.png"
            Image.effect_noise((64, 48), 60).convert("RGB").save(folder / name)
            size = [min(10.0, draw.lognormvariate(-6, 3)) for _ in range(tokens)]
            words = [draw.choice(WORDS) for _ in range(tokens)]
            record = {
                "id": f"q{number}", "prompt": "What does the picture show?", "images": [name],
                "response": " ".join(words), "tokens": [" " + word for word in words],
                "dependency": size, "reward": draw.choice([0.0, 1.0]), "gold": "7",
                "views": {"blind": {"log_ratio": [-(2 * one) ** 0.5 for one in size], "kl": size}},
            }  # fmt: skip
            file.write(json.dumps(record) + "\n")
    return folder


if __name__ == "__main__":
    main()
