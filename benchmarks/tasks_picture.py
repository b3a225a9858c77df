"""Draws docs/tasks.png: questions of every task with a picture, enlarged, answers in brackets.

python benchmarks/tasks_picture.py
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from sightline import tasks

PICTURE = Path(__file__).parent.parent / "docs" / "tasks.png"
WIDTH, GAP, LINE = 1080, 8, 15
SHOWN = {"digits-sum": 5, "shapes": 4, "charts": 5, "photos": 4, "irrelevant": 1}
ENLARGED = {"digits-sum": 4, "photos": 4}


def main() -> None:
    sheet = Image.new("RGB", (WIDTH, 2000), "white")
    pen = ImageDraw.Draw(sheet)
    top = GAP
    for name, number in SHOWN.items():
        pen.text((GAP, top), name, fill="black", font=ImageFont.load_default(16))
        top = draw_rows(sheet, chosen(name, number), ENLARGED.get(name, 3), top + 24) + GAP
    sheet.crop((0, 0, WIDTH, top)).quantize(128).save(PICTURE, optimize=True)
    print(f"{PICTURE.name}: {PICTURE.stat().st_size / 1000:.0f} kB")


def chosen(name: str, number: int) -> list[dict]:
    """The first rows, but no question twice before each was shown."""
    rows = tasks.load(name).rows(40, seed=3, split="warm")
    first = {row["question"]: row for row in reversed(rows)}
    ids = {row["id"] for row in first.values()}
    return (list(first.values()) + [row for row in rows if row["id"] not in ids])[:number]


def draw_rows(sheet: Image.Image, rows: list[dict], times: int, top: int) -> int:
    """Pictures side by side with what is asked below each; the row at which they end."""
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    left, bottom = GAP, top
    for row in rows:
        picture = row["images"][0]
        picture = picture.resize((picture.width * times, picture.height * times), 0)
        width = max(picture.width, 200)
        if left + width > WIDTH:
            left, top = GAP, bottom + GAP
        sheet.paste(picture, (left, top))
        below = top + picture.height + 2
        for line in wrapped(f"{row['question']} [{row['answer']}]", width, font):
            pen.text((left, below), line, fill="black", font=font)
            below += LINE
        left, bottom = left + width + GAP, max(bottom, below)
    return bottom


def wrapped(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


if __name__ == "__main__":
    main()
