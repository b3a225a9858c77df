"""How long `sightline check` takes on 1,000 rows, in fresh processes.

    python benchmarks/check_time.py

makes 1,000 rows (seeded), each with a JPEG of 300 x 200 of its own and every fifth with a gold for
math-verify, and checks them three times for the tiny model. Wall time, CPU time with that of the
verifier's workers, and the machine's load before each run go to `benchmarks/results/check.json`.
"""

import io
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from PIL import Image

from sightline.records import environment

RESULTS = Path(__file__).parent / "results" / "check.json"
ROWS, RUNS, SEED = 1_000, 3, 0
WIDTH, HEIGHT = 300, 200


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_rows(folder)
        runs = [timed(folder) for _ in range(RUNS)]
    middle = {key: median(run[key] for run in runs) for key in ("wall_seconds", "cpu_seconds")}
    content = {
        "rows": ROWS,
        "picture": f"JPEG, {WIDTH} x {HEIGHT}, {size / ROWS / 1000:.1f} kB on average",
        "seed": SEED,
        "median": middle,
        "runs": runs,
        "machine": machine(),
        "versions": environment(),
    }
    RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(middle))


def write_rows(folder: Path) -> int:
    """Write rows.jsonl and its pictures; the bytes of all pictures."""
    draws, pixels = random.Random(SEED), np.random.default_rng(SEED)
    (folder / "pictures").mkdir()
    lines, size = [], 0
    for number in range(ROWS):
        name = f"pictures/{number:04d}.jpg"
        data = picture(pixels)
        (folder / name).write_bytes(data)
        size += len(data)
        lines.append({
            "id": f"q{number}",
            "problem": f"<image> How long is side {number} of the figure?",
            "images": [name],
            "answer": gold(draws, number),
        })  # fmt: skip
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return size


def picture(pixels: np.random.Generator) -> bytes:
    """Coloured blocks under noise: neither flat nor of noise alone."""
    coarse = Image.fromarray(pixels.integers(0, 256, (4, 6, 3), dtype=np.uint8))
    blocks = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=float)
    noisy = (blocks + pixels.normal(0, 8, blocks.shape)).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def gold(draws: random.Random, number: int) -> str:
    """A number, or on every fifth row a root, a fraction or a pair."""
    a, b = draws.randint(2, 99), draws.randint(2, 99)
    if number % 5:
        return str(a)
    return draws.choice((f"{a}\\sqrt{{{b}}}", f"\\frac{{{a}}}{{{b}}}", f"({a}, {b})"))


def timed(folder: Path) -> dict[str, float]:
    """One run in a process of its own. CPU time is its own, and that of all it waited for."""
    command = [sys.executable, "-m", "sightline", "check", "--data", "rows.jsonl", "--json"]
    load, before, begun = os.getloadavg()[0], spent(), perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    wall = perf_counter() - begun
    if done.returncode:
        raise RuntimeError(
            f"sightline check ended with {done.returncode}: {(done.stderr or done.stdout)[-2000:]}"
        )
    return {
        "wall_seconds": round(wall, 1),
        "cpu_seconds": round(spent() - before, 1),
        "own_seconds": round(json.loads(done.stdout)["seconds"], 1),  # without what starts Python
        "load_before": round(load, 2),
    }


def spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def machine() -> dict[str, str | int | None]:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if platform.system() == "Linux" else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"processor": names[0] if names else platform.processor(), "cores": os.cpu_count()}


if __name__ == "__main__":
    main()
