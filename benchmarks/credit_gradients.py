"""Signal and noise of the gradient under each rule of credit, at a policy that is not trained.

    python benchmarks/credit_gradients.py --task digits-sum-48-free --seed 1 --batches 32

Samples batches from the warm start of the task and measures what every rule makes of them
(`sightline.compare.gradients`). Adds to `benchmarks/results/testbed/gradients.json` and prints the
table.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from keeping import TESTBED, add_run

from sightline import tasks
from sightline.compare.gradients import measure_gradients
from sightline.compare.measure import longest_response
from sightline.compare.rules import RULES
from sightline.process import quiet_libraries, use_threads
from sightline.report.formats import MINUS
from sightline.report.tables import Table, in_markdown
from sightline.warm_start import load_warm_model

RESULTS = TESTBED / "gradients.json"
SHOWN = (
    *("uniform", "oracle", "oracle-read", "pgpo", "pgpo-shuffled", "vppo", "vppo-filter"),
    *("prpo", "top-10", "top-40", "entropy-40", "sightline"),
)
NUMBERS = {
    "norm": "norm of the mean",
    "deviation": "deviation",
    "batch_norm": "norm of a batch",
    "signal_to_noise": "signal to noise",
    "relative_signal_to_noise": "over uniform's (95 %)",
    "cosine": "cosine of the means",
    "alignment": "alignment of a batch (95 %)",
    "relative_alignment": "over uniform's (95 %)",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="digits-sum-48-free")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batches", type=int, default=32)
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
    rules = {name: asdict(statistics) for name, statistics in found.items()}
    print(table(rules))
    add_run(
        RESULTS,
        "python benchmarks/credit_gradients.py --task TASK --seed SEED",
        f"{args.task} seed {args.seed}",
        {"batches": args.batches, "rules": rules},
    )


def table(found: dict) -> str:
    """In Markdown; a row per rule."""
    rows = [[name, *(_cell(numbers[key]) for key in NUMBERS)] for name, numbers in found.items()]
    return in_markdown(Table("rules", ("rule", *NUMBERS.values()), rows))


def _cell(value: float | Sequence[float] | None) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, float):
        return f"{value:.3g}"
    ratio, low, high = value
    return f"{ratio:.2f} ({low:.2f} to {high:.2f})".replace("-", MINUS)


if __name__ == "__main__":
    main()
