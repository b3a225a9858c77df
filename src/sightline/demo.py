"""The whole job on a laptop: warm-start the tiny VLM, train it with RL, show what it looked at."""

import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from tqdm import tqdm
from trl import GRPOConfig

from .algorithms import Algorithm
from .encoding import encode
from .evaluate import auroc, bootstrap_interval, greedy_responses
from .process import quiet_libraries
from .records import HELD_OUT_FILE, append_lines, save_images, token_records, write_json
from .report import write_report
from .rewards import exact_answer, think_format
from .run_arguments import TINY_SETTINGS
from .scoring import score_views
from .tasks import digits
from .token_labels import label_tokens
from .train import build_trainer, description, reinforce
from .views import Blind, SameImage
from .warm_start import WarmStart, load_warm_model

HELD_OUT = 1000  # questions
RECORDED = 200  # of their responses go to tokens.jsonl, for the report


def run_demo(
    algorithm: Algorithm, name: str, seed: int, steps: int, folder: Path, from_scratch: bool
) -> dict[str, Any]:
    """Run everything into `folder`, an empty run folder; return what `result.json` holds."""
    quiet_libraries()
    args = GRPOConfig(str(folder), max_steps=steps, seed=seed, **TINY_SETTINGS)
    about = {
        "model": "tiny",
        "from_scratch": from_scratch,
        "task": "digits",
        "data_sha256": digits.fingerprint(),
    }
    write_json(folder / "run.json", description(algorithm, name, args, about))
    clock = [perf_counter()]

    say("1/5  warm start: " + ("supervised fine-tuning on 300 scans" if from_scratch else "loaded"))
    recipe = WarmStart()
    with bar("steps", recipe.steps) as update:
        model, processor = load_warm_model(
            digits, seed, recipe=recipe, from_scratch=from_scratch, progress=update
        )
    clock.append(perf_counter())

    say(f"2/5  {HELD_OUT} held-out questions, before")
    questions = digits.rows(HELD_OUT, seed=seed, split="heldout")
    before, first_responses = answer(model, processor, questions)
    clock.append(perf_counter())

    batch, group = (TINY_SETTINGS[f] for f in ("per_device_train_batch_size", "num_generations"))
    say(f"3/5  {name.upper()}: {steps} steps of {batch} responses")
    rows = digits.rows(steps * batch // group, seed=seed, split="rl")
    rewards = [exact_answer, think_format]
    trainer = build_trainer(model, processor, algorithm, rows, args, reward_funcs=rewards)
    scoring_seconds = reinforce(trainer)
    clock.append(perf_counter())

    say(f"4/5  {HELD_OUT} held-out questions, after")
    after, responses = answer(model, processor, questions)
    clock.append(perf_counter())

    append_lines(
        folder / HELD_OUT_FILE,
        (
            {
                "id": row["id"],
                "gold": row["answer"],
                "response_before": first_responses[index],
                "right_before": bool(before[index]),
                "response_after": responses[index],
                "right_after": bool(after[index]),
            }
            for index, row in enumerate(questions)
        ),
    )

    say("5/5  what the answers looked at")
    found = look(model, processor, questions, responses, folder)
    clock.append(perf_counter())

    warm_start, first_eval, train, last_eval, _ = np.diff(clock).tolist()
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
        "reading_before": digits.reading_accuracy(questions, first_responses),
        "reading_after": digits.reading_accuracy(questions, responses),
        "visual_tokens_auroc": found,
        "seconds": {
            "warm_start": warm_start,
            "train": train,
            "scoring": scoring_seconds,
            "eval": first_eval + last_eval,
            "total": clock[-1] - clock[0],
        },
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    write_json(folder / "result.json", result)
    write_report(folder)
    return result


def answer(model: Any, processor: Any, questions: Sequence[dict]) -> tuple[list[float], list[str]]:
    """Greedy responses to `questions`, and 1 or 0 for each: is its answer right?"""
    with bar("questions", len(questions)) as update:
        longest = TINY_SETTINGS["max_completion_length"]
        responses = greedy_responses(model, processor, questions, longest, progress=update)
    return exact_answer(responses, [row["answer"] for row in questions]), responses


def look(
    model: Any, processor: Any, questions: Sequence[dict], responses: Sequence[str], folder: Path
) -> float | None:
    """Score held-out responses blind, record them, and say how well dependency finds the reading.

    Returns:
        AUROC of the sampled KL per token against the oracle label `visual`, over the tokens of
        all responses that follow the task's grammar; None if none does.
    """
    encoded = encode(processor, questions, responses).to(model.device)
    # the same picture twice is a control: what it gives is the scorer's doing
    asked = {"blind": Blind(), "control:same": SameImage()}
    views = score_views(model, encoded, asked, unchanged=True).views
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


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


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
