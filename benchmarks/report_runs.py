"""The runs behind the pictures of docs/report.md: a demo, and its responses scored by two models.

    python benchmarks/report_runs.py runs

makes in that folder `demo` (60 steps with PGPO), and with `sightline score` `trained` and `start`:
the demo's 200 recorded responses as seen by the model that gave them and by the weights that it
started from, under several views, with exact KL, controls, oracle labels and, of `trained`, image
cells. `pairs` holds the same responses, each with the picture of the next question behind its own,
as the demo's model sees them with both hidden, and with either. What is there already is not made
again. Takes ten minutes on one CPU core.
"""

import json
import sys
from pathlib import Path

from sightline.cli import main as sightline
from sightline.tasks import digits

SCORED = [
    *("--views", "blind,patches,noise", "--exact-kl", "--controls", "--threads", "1"),
    *("--weights", "pgpo,vppo,prpo"),
]
PAIRED = ["--views", "blind,blind:image=0,blind:image=1", "--threads", "1"]
CELLS = ["--attribute", "label:visual", "--attribute-responses", "4"]


def main() -> None:
    folder = Path(sys.argv[1])
    demo = folder / "demo"
    if not (demo / "result.json").exists():
        run("demo", "--threads", "1", "--output-dir", demo)
    asked = labelled(demo)
    for name, model, more in (
        ("trained", demo / "checkpoint", CELLS),
        ("start", "tiny", []),
    ):
        run("score", "--model", model, "--responses", asked, "--images", demo, *SCORED, *more,
            "-o", folder / name)  # fmt: skip
    run("score", "--model", demo / "checkpoint", "--responses", paired(asked), "--images", demo,
        *PAIRED, "-o", folder / "pairs")  # fmt: skip
    run("report", demo)
    run("report", folder / "pairs")
    run("report", folder / "trained", folder / "start")


def labelled(demo: Path) -> Path:
    """The demo's held-out responses, with the oracle labels as ranges of characters."""
    path = demo.parent / "responses.jsonl"
    records = [json.loads(line) for line in (demo / "tokens.jsonl").read_text().split("\n")[:-1]]
    kept = ("id", "prompt", "images", "response", "gold", "reward", "reward_reason", "split")
    lines = [
        {key: one[key] for key in kept} | {"spans": digits.spans(one["response"])}
        for one in records
        if one["split"] == "heldout"
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def paired(asked: Path) -> Path:
    """The responses, each to two pictures: its own, then that of the next response."""
    path = asked.with_name("pairs.jsonl")
    records = [json.loads(line) for line in asked.read_text().split("\n")[:-1]]
    nexts = [*records[1:], records[0]]
    lines = [
        one | {"images": one["images"] + other["images"]}
        for one, other in zip(records, nexts, strict=True)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def run(*arguments: str | Path) -> None:
    if code := sightline([str(argument) for argument in arguments]):
        sys.exit(code)


if __name__ == "__main__":
    main()
