"""What training writes while it runs: `metrics.jsonl`, and one readable line per log step."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from tqdm import tqdm
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback

from ...records import append_lines
from .seam import log

# Column, metric in the log, format; a metric that a run does not have shows as a dash. What is
# called accuracy depends on the rewards: the first of these that there is.
ACCURACY = ("rewards/exact_answer/mean", "rewards/accuracy/mean", "accuracy/mean")
COLUMNS = (
    ("reward", "reward", "{:.3f}"),
    ("accuracy", ACCURACY, "{:.3f}"),
    ("dependency", "dependency/mean", "{:.3f}"),
    ("top-10% weight", "weights/top10_share", "{:.2f}"),
    ("largest", "weights/largest", "{:.1f}"),
    ("effective tokens", "weights/effective_tokens", "{:.1f}"),
    ("grad norm", "grad_norm", "{:.2f}"),
    ("scoring s", "seconds/scoring", "{:.2f}"),
)


class Clock(TrainerCallback):
    """Logs where the seconds of each optimizer step went.

    Parts that are timed are logged under their names, and what is left as `update`: the loss, its
    gradient and the optimizer's step. `totals` holds the sums of all steps.
    """

    def __init__(self, trainer: Any):
        self.trainer, self.begun = trainer, perf_counter()
        self.step: dict[str, float] = defaultdict(float)
        self.totals: dict[str, float] = defaultdict(float)

    @contextmanager
    def times(self, part: str) -> Iterator[None]:
        """Count what runs within as `part` of the step."""
        started = perf_counter()
        try:
            yield
        finally:
            self.step[part] += perf_counter() - started

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.begun = perf_counter()
        self.step.clear()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.step["update"] = perf_counter() - self.begun - sum(self.step.values())
        for part, seconds in self.step.items():
            self.totals[part] += seconds
        # a part that this step had none of counts as 0 in the mean of the log
        log(self.trainer, {f"seconds/{part}": self.step[part] for part in self.totals})


class MetricsFile(TrainerCallback):
    """Append each log to `metrics.jsonl` in the run folder."""

    def __init__(self, folder: Path):
        self.path = folder / "metrics.jsonl"

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and logs:
            append_lines(self.path, [{"step": state.global_step, **logs}])


class ReadableProgress(ProgressCallback):
    """The Trainer's progress bar, with a table row instead of a dictionary at each log step."""

    header_shown = False

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero or not logs or "reward" not in logs:
            return
        if not self.header_shown:
            self.header_shown = True
            tqdm.write("  step  " + "  ".join(name for name, _, _ in COLUMNS))
        cells = []
        for name, key, form in COLUMNS:
            keys = (key,) if isinstance(key, str) else key
            value = next((logs[k] for k in keys if k in logs), None)
            cells.append(("-" if value is None else form.format(value)).rjust(len(name)))
        alike = "  no group differs in reward" if logs.get("frac_reward_zero_std") == 1 else ""
        tqdm.write(f"{state.global_step:6d}  " + "  ".join(cells) + alike)


def show_readable_progress(trainer: Trainer) -> None:
    """Put `ReadableProgress` where the Trainer would print dictionaries."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(ReadableProgress)
