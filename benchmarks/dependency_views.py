"""Which view of the image finds the words that had to be read? And the controls.

    python benchmarks/dependency_views.py --task digits-sum-48-free --seed 0

Samples responses from the warm start of the task, scores them under every view and compares each
token's dependency with its oracle label. Adds to `benchmarks/results/testbed/views.json` and
prints the table. `same` is the control that must be exactly 0; random views are drawn twice.
"""

import argparse
from collections.abc import Mapping

from keeping import TESTBED, add_run

from sightline import tasks
from sightline.compare.measure import found_by, longest_response
from sightline.compare.trainer import labels_of
from sightline.draws import Draws
from sightline.encoding import encode
from sightline.evaluate import sampled_responses
from sightline.process import quiet_libraries, use_threads
from sightline.report.tables import Table, in_markdown
from sightline.scoring import score_views
from sightline.views import AddNoise, Blind, Gray, MaskPatches, OtherImage, SameImage
from sightline.warm_start import load_warm_model

RESULTS = TESTBED / "views.json"
VIEWS = {
    "same": SameImage(),
    "blind": Blind(),
    "gray": Gray(),
    "other": OtherImage(),
    "patches": MaskPatches(),
    "patches again": MaskPatches(),
    "noise 0.1": AddNoise(0.1),
    "noise 1": AddNoise(1.0),
    "noise 1 again": AddNoise(1.0),
}
NUMBERS = {
    "auroc_k3": "AUROC, k3",
    "auroc_kl": "AUROC, exact KL",
    "precision_k3": "precision, k3",
    "precision_kl": "precision, exact KL",
    "dependency_visual": "nats on what is read",
    "dependency_answer": "on the answer",
    "dependency_other": "on the rest",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="digits-sum-48-free")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--responses", type=int, default=256)
    args = parser.parse_args()
    use_threads(1)
    quiet_libraries()
    task = tasks.load(args.task)
    model, processor = load_warm_model(task, args.seed, from_scratch=True)
    rows = task.rows(args.responses, seed=args.seed, split="heldout")
    longest = longest_response(processor, task, rows)
    sampled = sampled_responses(
        model, processor, rows, list(range(len(rows))), max_new_tokens=longest
    )
    responses = encode(processor, rows, [response.ids for response in sampled])
    labels = labels_of(processor.tokenizer, task, responses)
    draws = Draws.of(rows, seed=args.seed)
    scored = score_views(
        model, responses, VIEWS, processor=processor, draws=draws, exact_kl=True, unchanged=True
    )
    found = {name: found_by(scored.views[name], labels, responses.mask) for name in VIEWS}
    assert scored.views["same"].kl is not None and not scored.views["same"].kl.any()
    add_run(
        RESULTS,
        "python benchmarks/dependency_views.py --task TASK --seed SEED",
        f"{args.task} seed {args.seed}",
        {"responses": args.responses, "views": found},
    )
    print(table(found))


def table(found: dict) -> str:
    """In Markdown; a row per view."""
    rows = [[name, *(_cell(numbers[key]) for key in NUMBERS)] for name, numbers in found.items()]
    return in_markdown(Table("views", ("view", *NUMBERS.values()), rows))


def by_task(runs: Mapping[str, dict], number: str) -> str:
    """One number of every run, in Markdown; a row per view, a column per run."""
    rows = [[name, *(_cell(run["views"][name][number]) for run in runs.values())] for name in VIEWS]
    return in_markdown(Table("tasks", ("view", *runs), rows))


def _cell(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
