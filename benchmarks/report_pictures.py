"""Makes the pictures of docs/report.md from real runs, in a headless Chromium.

    python benchmarks/report_runs.py runs       # makes the runs
    python benchmarks/report_pictures.py runs   # makes docs/report/*.png from their reports

Each picture is one panel, light beside dark: at 1,280 pixels (`-desktop`) and at 390 (`-phone`).
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
}  # fmt: skip
WIDTHS = {"desktop": 1280, "phone": 390}
TALLEST = {"desktop": 1200, "phone": 1700}  # pixels; what is below is left out
LARGEST = 200_000  # bytes


def main() -> None:
    runs = Path(sys.argv[1])
    for kind, width in WIDTHS.items():
        for run, panels in PANELS.items():
            pages = [shots(runs / run / "report.html", width, dark, panels) for dark in (0, 1)]
            for name in panels:
                save(PICTURES / f"{name}-{kind}.png", [page[name] for page in pages], kind)


def shots(page: Path, width: int, dark: int, panels: dict[str, str]) -> dict[str, Image.Image]:
    with Browser(width, 900, dark=bool(dark)) as browser:
        browser.open(page)
        return {
            name: Image.open(io.BytesIO(browser.picture(selector))).convert("RGB")
            for name, selector in panels.items()
        }


def save(path: Path, pictures: list[Image.Image], kind: str) -> None:
    """Side by side, in as few colours as it takes to stay below the largest size."""
    height = min(TALLEST[kind], max(one.height for one in pictures))
    sheet = Image.new("RGB", (sum(one.width for one in pictures), height), "white")
    left = 0
    for one in pictures:
        sheet.paste(one, (left, 0))
        left += one.width
    for colours in (128, 64, 32, 16):
        sheet.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size <= LARGEST:
            break
    else:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, more than {LARGEST:,}")
    print(f"{path.name}: {sheet.width} x {sheet.height}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
