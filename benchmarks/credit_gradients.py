"""Signal and noise of the gradient under each rule of credit, at a policy that is not trained.

    python benchmarks/credit_gradients.py --task digits-sum-48-free --seed 0 --batches 24

Samples batches from the warm start of the task and measures what every rule makes of them
(`sightline.compare.gradients`). Adds to `benchmarks/results/testbed/gradients.json` and prints the
table.
"""

import argparse
import json
import os
import platform
from dataclasses import asdict
from pathlib import Path

from sightline import tasks
from sightline.compare.code import versions
from sightline.compare.gradients import measure_gradients
from sightline.compare.measure import longest_response
from sightline.compare.rules import RULES
from sightline.process import quiet_libraries, use_threads
from sightline.warm_start import load_warm_model

RESULTS = Path(__file__).parent / "results" / "testbed" / "gradients.json"
SHOWN = (
    *("uniform", "oracle", "oracle-read", "pgpo", "pgpo-kl", "pgpo-shuffled"),
    *("vppo", "vppo-filter", "prpo", "top-10", "top-40", "entropy-40"),
    *("sightline", "sightline-25", "sightline-50"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="digits-sum-48-free")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batches", type=int, default=24)
    args = parser.parse_args()
    use_threads(1)
    quiet_libraries()
    task = tasks.load(args.task)
    model, processor = load_warm_model(task, args.seed, from_scratch=True)
    found = measure_gradients(
        model,
        processor,
        task,
        {name: RULES[name] for name in SHOWN},
        "uniform",
        batches=args.batches,
        prompts=16,
        group_size=8,
        max_new_tokens=longest_response(processor, task, task.rows(20)),
        seed=args.seed,
        progress=lambda done: print(f"batch {done} of {args.batches}", flush=True),
    )
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": {}}
    kept["command"] = "python benchmarks/credit_gradients.py --task TASK --seed SEED"
    kept["runs"][f"{args.task} seed {args.seed}"] = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, one thread",
        "versions": versions(),
        "batches": args.batches,
        "rules": {name: asdict(statistics) for name, statistics in found.items()},
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    print(table({name: asdict(statistics) for name, statistics in found.items()}))


def table(found: dict) -> str:
    """In Markdown; a row per rule."""
    lines = [
        "| rule | norm of the mean | deviation | signal to noise | cosine with uniform |",
        "|---|---|---|---|---|",
    ]
    for name, s in found.items():
        cosine = "n/a" if s["cosine"] is None else f"{s['cosine']:.3f}"
        lines.append(
            f"| {name} | {s['norm']:.3g} | {s['deviation']:.3g} | {s['signal_to_noise']:.3g} | "
            f"{cosine} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
