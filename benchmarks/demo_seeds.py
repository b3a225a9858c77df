"""`sightline demo` on several seeds, PGPO beside GRPO, and once with VPPO and PRPO.

    python benchmarks/demo_seeds.py --seeds 0 1 2 3 4 --parallel 2

Each run is one process on one thread, so that two fit on two cores; its folder is kept under
`runs/benchmark-demo` and a finished one is not run again. Writes `benchmarks/results/demo.json`
and prints the table.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

RUNS = Path("runs/benchmark-demo")
RESULTS = Path(__file__).parent / "results" / "demo.json"
ALGORITHMS = ("pgpo", "grpo")
ONCE = ("vppo", "prpo")  # on the first seed


def run(job: tuple[str, int]) -> dict:
    """One demo; its result."""
    algorithm, seed = job
    folder = RUNS / f"{algorithm}-seed{seed}"
    if not (folder / "result.json").exists():
        flags = ["--algorithm", algorithm, "--seed", str(seed), "--threads", "1"]
        with (RUNS / f"{folder.name}.log").open("w") as log:
            subprocess.run(
                [sys.executable, "-m", "sightline", "demo", *flags, "--output-dir", str(folder)],
                stdout=log,
                stderr=log,
                check=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
    return json.loads((folder / "result.json").read_text())


def table(results: list[dict]) -> str:
    """One line per run, in Markdown."""
    lines = [
        "| algorithm | seed | before | after | gain, points (95 % interval) | both digits read, "
        "before → after | AUROC | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        low, high = (100 * bound for bound in r["gain_ci95"])
        gain = 100 * (r["accuracy_after"] - r["accuracy_before"])
        lines.append(
            f"| {r['algorithm']} | {r['seed']} | {r['accuracy_before']:.1%} | "
            f"{r['accuracy_after']:.1%} | {gain:+.1f} ({low:+.1f} to {high:+.1f}) | "
            f"{r['reading_before']:.1%} → {r['reading_after']:.1%} | "
            f"{r['visual_tokens_auroc']:.3f} | {r['seconds']['total']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--parallel", type=int, default=2)
    args = parser.parse_args()
    RUNS.mkdir(parents=True, exist_ok=True)
    jobs = [(algorithm, seed) for seed in args.seeds for algorithm in ALGORITHMS]
    jobs += [(algorithm, args.seeds[0]) for algorithm in ONCE]
    with ThreadPoolExecutor(args.parallel) as pool:
        results = sorted(pool.map(run, jobs), key=lambda r: (r["algorithm"], r["seed"]))
    settings = json.loads((RUNS / f"pgpo-seed{args.seeds[0]}" / "run.json").read_text())
    content = {
        "command": f"python benchmarks/demo_seeds.py --seeds {' '.join(map(str, args.seeds))} "
        f"--parallel {args.parallel}",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": settings["versions"],
        "settings": settings["settings"],
        "results": results,
    }
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
