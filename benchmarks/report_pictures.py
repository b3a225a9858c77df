"""Makes the pictures of docs/report.md from real runs, in a headless Chromium.

    python benchmarks/report_runs.py runs       # makes the runs
    python benchmarks/report_pictures.py runs   # makes docs/report/*.png from their reports

Each picture is one panel, light beside dark: at 1,280 pixels (`-desktop`) and at 390 (`-phone`).
docs/response.png is the panel of the demo's responses with the first right and the first wrong one.
"""

import io
import sys
from pathlib import Path

from chromium import Browser
from PIL import Image

PICTURES = Path(__file__).parent.parent / "docs" / "report"
PANELS = {  # of which report, and which part of the page
    "demo": {"header": "header", "training": "#training"},
    "trained": {
        name: f"#{name}"
        for name in ("comparison", "responses", "distribution", "trajectories", "token-classes",
                     "anchors", "position", "attribution", "control", "oracle", "estimators")
    },
    "pairs": {"images-read": "#images-read"},
}  # fmt: skip
WIDTHS = {"desktop": 1280, "phone": 390}
TALLEST = {"desktop": 1200, "phone": 1700}  # pixels; what is below is left out
LARGEST = 200_000  # bytes
COLOURS = 128, 64, 32, 16
MORE_COLOURS = 256, *COLOURS  # for pictures and pale tints in one
RESPONSE = PICTURES.parent / "response.png"
ONE_OF_EACH = """
const panel = document.querySelector('#responses');
const around = ':scope > h2, :scope > p, .controls, details';
for (const one of panel.querySelectorAll(around)) one.remove();
for (const group of panel.querySelectorAll('.group')) {
  const first = group.querySelector('.response');
  for (const one of group.querySelectorAll('.response')) if (one !== first) one.remove();
  for (const one of group.querySelectorAll('.batch')) if (!one.contains(first)) one.remove();
}
"""


def main() -> None:
    runs = Path(sys.argv[1])
    save(RESPONSE, one_of_each(runs / "demo" / "report.html"), MORE_COLOURS)
    for kind, width in WIDTHS.items():
        for run, panels in PANELS.items():
            pages = [shots(runs / run / "report.html", width, dark, panels) for dark in (0, 1)]
            for name in panels:
                both = side_by_side([page[name] for page in pages], TALLEST[kind])
                save(PICTURES / f"{name}-{kind}.png", both)


def one_of_each(page: Path) -> Image.Image:
    """The first right and the first wrong response, whose mean dependencies are the highest."""
    with Browser(1060, 900, scale=2) as browser:
        browser.open(page)
        browser.run(ONE_OF_EACH)
        return Image.open(io.BytesIO(browser.picture("#responses"))).convert("RGB")


def shots(page: Path, width: int, dark: int, panels: dict[str, str]) -> dict[str, Image.Image]:
    with Browser(width, 900, dark=bool(dark)) as browser:
        browser.open(page)
        return {
            name: Image.open(io.BytesIO(browser.picture(selector))).convert("RGB")
            for name, selector in panels.items()
        }


def side_by_side(pictures: list[Image.Image], tallest: int) -> Image.Image:
    height = min(tallest, max(one.height for one in pictures))
    sheet = Image.new("RGB", (sum(one.width for one in pictures), height), "white")
    left = 0
    for one in pictures:
        sheet.paste(one, (left, 0))
        left += one.width
    return sheet


def save(path: Path, sheet: Image.Image, numbers: tuple[int, ...] = COLOURS) -> None:
    """In as few colours as it takes to stay below the largest size."""
    for colours in numbers:
        sheet.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size <= LARGEST:
            break
    else:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, more than {LARGEST:,}")
    print(f"{path.name}: {sheet.width} x {sheet.height}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
