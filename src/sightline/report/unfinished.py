"""Whether a run is at its end, as its files tell."""

from .formats import counted
from .records import as_object, number
from .runs import PARTIAL, Run

STOPPED = "This run is not finished (it was stopped, or is still going)"


def unfinished(run: Run) -> str:
    """What is missing of a run that is not at its end, or an empty string."""
    if run.kind == "score" and not (run.folder / "tokens.jsonl").is_file():
        rows = number(as_object(run.about.get("data")).get("rows"))
        return (
            f"{STOPPED}: {PARTIAL} holds {counted(len(run.responses), 'response')}{of(rows)}, the "
            "longest first. All numbers below are of these alone, and will change."
        )
    if run.kind in ("score", "eval") and not run.result:
        return f"{STOPPED}: there is no result.json. What it has written so far is shown."
    if run.kind == "train" and not run.result:
        return training_stopped(run)
    return ""


def training_stopped(run: Run) -> str:
    """The same of training, whose last line in metrics.jsonl is a summary of all of it."""
    steps = [step for line in run.metrics if (step := number(line.get("step"))) is not None]
    asked = number(as_object(run.about.get("settings")).get("max_steps"))
    asked = asked if asked and asked > 0 else None  # -1: as many as its epochs have
    ended = any("train_runtime" in line for line in run.metrics)
    if not steps or ended or (asked and max(steps) >= asked):
        return ""
    return (
        f"{STOPPED}: metrics.jsonl ends at step {int(max(steps)):,}{of(asked)}, without the "
        "summary that the end of training writes."
    )


def of(count: float | None) -> str:
    return "" if count is None else f" of {int(count):,}"
