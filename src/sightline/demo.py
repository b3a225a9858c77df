"""The whole job on a laptop: warm-start the tiny VLM, train it with RL, show what it looked at."""

import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from .algorithms import Algorithm
from .encoding import encode
from .evaluate import auroc, bootstrap_interval, greedy_responses
from .records import append_lines, environment, save_images, token_records, write_json
from .rewards import exact_answer, think_format
from .scoring import score_views
from .tasks import digits
from .token_labels import label_tokens
from .views import Blind
from .warm_start import WarmStart, load_warm_model

HELD_OUT = 1000  # questions
RECORDED = 200  # of their responses go to tokens.jsonl, for the report
MAX_TOKENS = 64
SETTINGS = {  # of GRPOConfig: DAPO's loss on small batches
    "learning_rate": 1e-4,
    "lr_scheduler_type": "linear",
    "max_grad_norm": 1.0,
    "per_device_train_batch_size": 128,
    "num_generations": 8,
    "max_completion_length": MAX_TOKENS,
    "loss_type": "dapo",
    "epsilon": 0.2,
    "epsilon_high": 0.28,
    "beta": 0.0,
    "reward_weights": [0.9, 0.1],  # accuracy and format, as PGPO mixes them
    "logging_steps": 5,
    "save_strategy": "no",
    "report_to": "none",
    # TRL's defaults suit GPUs: on a CPU bf16 is emulated and checkpointing only costs time (T64)
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
}


def run_demo(
    algorithm: Algorithm, name: str, seed: int, steps: int, folder: Path, from_scratch: bool
) -> dict[str, Any]:
    """Run everything into `folder`, an empty run folder; return what `result.json` holds."""
    from trl import GRPOConfig

    from .engines.trl import PerceptionGRPOTrainer, show_readable_progress
    from .report import write_report

    started = perf_counter()
    settings = {**SETTINGS, "max_steps": steps, "seed": seed}
    write_json(
        folder / "run.json",
        {
            "command": " ".join(["sightline", *sys.argv[1:]]),
            "algorithm": {"name": name, **asdict(algorithm)},
            "model": {"name": "tiny Qwen2.5-VL", "from_scratch": from_scratch},
            "task": "digits",
            "seed": seed,
            "settings": settings,
            "threads": torch.get_num_threads(),
            "data_sha256": digits.fingerprint(),
            "versions": environment(),
        },
    )
    print("1/5  warm start: supervised fine-tuning on 300 scans", flush=True)
    recipe = WarmStart()
    with bar("steps", recipe.steps) as update:
        model, processor = load_warm_model(
            digits, seed, recipe=recipe, from_scratch=from_scratch, progress=update
        )
    warmed = perf_counter()

    print(f"2/5  {HELD_OUT} held-out questions, before", flush=True)
    questions = digits.rows(HELD_OUT, seed=seed, split="heldout")
    before, first_responses = answer(model, processor, questions)
    evaluated = perf_counter()

    print(
        f"3/5  {name.upper()}, {steps} steps of {SETTINGS['per_device_train_batch_size']} responses"
    )
    trainer = PerceptionGRPOTrainer(
        model=model,
        processing_class=processor,
        algorithm=algorithm,
        reward_funcs=[exact_answer, think_format],
        train_dataset=digits.rows(16 * steps, seed=seed, split="rl"),
        args=GRPOConfig(output_dir=str(folder), **settings),
    )
    show_readable_progress(trainer)
    trainer.train()
    trainer.save_model(str(folder / "checkpoint"))
    trained = perf_counter()

    print(f"4/5  {HELD_OUT} held-out questions, after", flush=True)
    after, responses = answer(model, processor, questions)
    eval_seconds = evaluated - warmed + perf_counter() - trained
    print("5/5  what the answers looked at", flush=True)
    found = look(model, processor, questions, responses, folder)

    result = {
        "algorithm": name,
        "seed": seed,
        "steps": steps,
        "n_heldout": len(questions),
        "accuracy_before": float(np.mean(before)),
        "accuracy_after": float(np.mean(after)),
        "accuracy_before_ci95": bootstrap_interval(before),
        "accuracy_after_ci95": bootstrap_interval(after),
        "gain_ci95": bootstrap_interval(np.subtract(after, before).tolist()),
        "visual_tokens_auroc": found,
        "reading_before": digits.reading_accuracy(questions, first_responses),
        "reading_after": digits.reading_accuracy(questions, responses),
        "seconds": {
            "warm_start": warmed - started,
            "train": trained - evaluated,
            "scoring": trainer.scoring_seconds,
            "eval": eval_seconds,
            "total": perf_counter() - started,
        },
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    write_json(folder / "result.json", result)
    write_report(folder)
    return result


def use_threads(count: int) -> None:
    """Compute on `count` CPU threads; the last bits of every number depend on how many."""
    torch.set_num_threads(count)
    # Adam's moments of unused tokens decay into denormal numbers, on which a CPU is many times
    # slower: whole steps took ten times as long.
    torch.set_flush_denormal(True)


def answer(model: Any, processor: Any, questions: Sequence[dict]) -> tuple[list[float], list[str]]:
    """Greedy responses to `questions`, and 1 or 0 for each: is its answer right?"""
    with bar("questions", len(questions)) as update:
        responses = greedy_responses(model, processor, questions, MAX_TOKENS, progress=update)
    return exact_answer(responses, [row["answer"] for row in questions]), responses


def look(
    model: Any, processor: Any, questions: Sequence[dict], responses: Sequence[str], folder: Path
) -> float | None:
    """Score held-out responses blind, record them, and say how well dependency finds the reading.

    Returns:
        AUROC of the sampled KL per token against the oracle label `visual`, over the tokens of
        all responses that follow the task's grammar; None if none does.
    """
    encoded = encode(processor, questions, responses)
    views = score_views(model, encoded, {"blind": Blind()}).views
    spans = [digits.spans(response) for response in responses]
    verdicts = exact_answer(responses, [row["answer"] for row in questions])
    records = token_records(
        processor.tokenizer,
        questions,
        encoded,
        views,
        images=[save_images(folder, row) for row in questions[:RECORDED]]
        + [[]] * (len(questions) - RECORDED),
        split=["heldout"] * len(questions),
        reward=verdicts,
        reward_reason=["matched" if verdict else "different" for verdict in verdicts],
    )
    scores, visual = [], []
    for record, found in zip(records, spans, strict=True):
        record["labels"] = found and label_tokens(record["tokens"], found)
        if record["labels"]:
            scores += record["dependency"]
            visual += [label == "visual" for label in record["labels"]]
    append_lines(folder / "tokens.jsonl", records[:RECORDED])
    return auroc(scores, visual)


@contextmanager
def bar(name: str, total: int) -> Iterator[Callable[[int], Any]]:
    """A progress bar that is told how far things are."""
    with tqdm(total=total, desc=f"     {name}", leave=False, disable=None) as shown:
        yield lambda done: shown.update(done - shown.n)


def summary(result: dict[str, Any], folder: Path) -> str:
    """The few lines a newcomer reads at the end."""
    seconds, auroc_found = result["seconds"], result["visual_tokens_auroc"]
    gain = result["accuracy_after"] - result["accuracy_before"]
    low, high = result["gain_ci95"]
    accuracies = [
        f"  {when:<7} {result[f'accuracy_{when}']:6.1%}   95 % interval "
        "{:.1%} to {:.1%}".format(*result[f"accuracy_{when}_ci95"])
        for when in ("before", "after")
    ]
    lines = [
        "",
        f"held-out accuracy, {result['n_heldout']} questions on scans that were never trained on",
        *accuracies,
        f"  gain    {100 * gain:+5.1f} points, 95 % interval {100 * low:+.1f} to {100 * high:+.1f}",
        "dependency finds the words that must be read: AUROC "
        + ("n/a" if auroc_found is None else f"{auroc_found:.3f}"),
        f"time {seconds['total']:.0f} s: warm start {seconds['warm_start']:.0f}, "
        f"training {seconds['train']:.0f} (of it scoring {seconds['scoring']:.0f}), "
        f"evaluation {seconds['eval']:.0f}; peak memory {result['peak_rss_mb'] / 1000:.1f} GB",
        f"token by token: {folder / 'report.html'}",
    ]
    return "\n".join(lines)
