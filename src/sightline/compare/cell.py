"""One cell: a task, a rule, a learning rate and a seed, trained and measured into a run folder.

Everything but rule and learning rate depends on task and seed alone: warm start, order of the
questions, random numbers of sampling, held-out questions. So cells of one seed compare in pairs.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback
from trl import GRPOConfig

from .. import tasks
from ..algorithms import Algorithm
from ..process import quiet_libraries, use_threads
from ..records import HELD_OUT_FILE, append_lines, read_lines, write_json
from ..rewards import exact_answer, think_format
from ..run_arguments import TINY_SETTINGS
from ..train import description
from ..warm_start import load_warm_model
from .code import versions
from .measure import Answers, answer, check_control, longest_response, look
from .trainer import LabelledTrainer
from .update_norm import EqualNormAdamW

WATCHED = (  # of metrics.jsonl, averaged over training; docs/engines.md says what each is
    *("grad_norm", "weights/largest", "weights/effective_tokens", "weights/top10_share"),
    *("frac_reward_zero_std", "entropy", "completions/mean_length", "completions/clipped_ratio"),
)


@dataclass(frozen=True)
class Cell:
    """What one run is of."""

    task: str
    rule: str
    learning_rate: float
    seed: int

    @property
    def name(self) -> str:
        """Of its folder, below that of the suite."""
        return f"{self.task}/{self.rule}/lr{self.learning_rate:g}/seed{self.seed}"


@dataclass(frozen=True)
class Protocol:
    """What all cells of a suite have in common.

    Args:
        steps: of reinforcement learning.
        prompts, group_size: a step samples `group_size` responses to each of `prompts` questions.
        measure_every: steps between two measurements on held-out questions.
        heldout: held-out questions at each measurement.
        twins: of them, how many are also asked about their counterfactual twin, before and after.
        update_norm: length of every update of the weights, whatever the rule; None for Adam's own.
        warm_starts: how many starts the seeds share, each made from its own seed: a seed begins
            with start `seed % warm_starts`. None for one of its own.
    """

    steps: int = 60
    prompts: int = 16
    group_size: int = 8
    measure_every: int = 20
    heldout: int = 400
    twins: int = 200
    update_norm: float | None = None
    warm_starts: int | None = None

    def start(self, seed: int) -> int:
        """The seed of the warm start that cells of `seed` begin with."""
        return seed if self.warm_starts is None else seed % self.warm_starts

    def __post_init__(self):
        for name, value in asdict(self).items():
            if name == "update_norm":
                if value is not None and not 0 < value < float("inf"):
                    raise ValueError(f"update_norm must be above 0 and finite, got {value}")
                continue
            if name == "warm_starts" and value is None:
                continue
            least = 0 if name == "twins" else 1
            if not (type(value) is int and value >= least):
                raise ValueError(
                    f"{name} must be a whole number of at least {least}, got {value!r}"
                )
        if self.steps % self.measure_every:
            raise ValueError(
                f"measure_every must divide steps, {self.steps}, got {self.measure_every}"
            )
        if self.group_size < 2:
            raise ValueError(f"group_size must be at least 2, got {self.group_size}")
        if self.twins > self.heldout:
            raise ValueError(f"twins must be at most heldout, {self.heldout}, got {self.twins}")


def run_cell(cell: Cell, algorithm: Algorithm, protocol: Protocol, folder: Path) -> None:
    """Train and measure `cell` into `folder`, an empty run folder, on one thread.

    Leaves `run.json`, `metrics.jsonl`, `tokens.jsonl`, `heldout.jsonl` (each held-out question and
    what became of it) and, last of all, `result.json`.
    """
    use_threads(1)
    quiet_libraries()
    task = tasks.load(cell.task)
    model, processor = load_warm_model(task, protocol.start(cell.seed), from_scratch=True)
    rows = task.rows(protocol.steps * protocol.prompts, seed=cell.seed, split="rl")
    heldout = task.rows(protocol.heldout, seed=cell.seed, split="heldout")
    longest = longest_response(processor, task, rows)
    args = _settings(cell, protocol, folder, longest)
    about = {
        "model": "tiny",
        "task": cell.task,
        "data_sha256": task.fingerprint(),
        "cell": asdict(cell),
        "rule": repr(algorithm),
        "protocol": asdict(protocol),
    }
    said = description(algorithm, cell.rule, args, about) | {"versions": versions()}
    write_json(folder / "run.json", said)
    start = weights_sha256(model)
    optimizer = None
    if protocol.update_norm is not None:
        optimizer = EqualNormAdamW(
            model.parameters(), lr=cell.learning_rate, norm=protocol.update_norm
        )
    trainer = LabelledTrainer(
        model=model,
        processing_class=processor,
        algorithm=algorithm,
        task=task,
        train_dataset=rows,
        args=args,
        reward_funcs=[exact_answer, think_format],
        optimizers=(optimizer, None),
    )
    curve = Curve(trainer, processor, heldout, longest, protocol)
    trainer.add_callback(curve)
    curve.measure(0)
    trainer.train()
    append_lines(folder / HELD_OUT_FILE, curve.questions())
    metrics = read_lines(folder / "metrics.jsonl")
    result = {
        "cell": asdict(cell),
        "start_sha256": start,
        "points": with_costs(
            curve.points, metrics, args.per_device_train_batch_size, int(args.logging_steps)
        ),
        "training": means_of(metrics),
    }
    write_json(folder / "result.json", result)


def weights_sha256(model: Any) -> str:
    """Of all parameters, in their order: whether two cells began with the same ones."""
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def means_of(metrics: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What the updates were like: means over training of `WATCHED`, those there are.

    Where a step was skipped because it was not finite, its line of the log has no such number.
    """
    steps = [line for line in metrics if "reward" in line]
    values = {name: [s[name] for s in steps if s.get(name) is not None] for name in WATCHED}
    return {name: float(np.mean(found)) for name, found in values.items() if found}


def _settings(cell: Cell, protocol: Protocol, folder: Path, longest: int) -> GRPOConfig:
    settings = {
        **TINY_SETTINGS,
        "learning_rate": cell.learning_rate,
        "per_device_train_batch_size": protocol.prompts * protocol.group_size,
        "num_generations": protocol.group_size,
        "max_completion_length": longest,
        "disable_tqdm": True,
        "logging_steps": max(n for n in (5, 4, 3, 2, 1) if protocol.measure_every % n == 0),
    }
    return GRPOConfig(str(folder), max_steps=protocol.steps, seed=cell.seed, **settings)


class Curve(TrainerCallback):
    """Measures the policy on held-out questions every few steps.

    Args:
        trainer: with its task.
        heldout: the questions; the first `protocol.twins` have their twins asked as well, before
            and after.
        longest: tokens that a response may take.
    """

    def __init__(
        self,
        trainer: LabelledTrainer,
        processor: Any,
        heldout: Sequence[dict],
        longest: int,
        protocol: Protocol,
    ):
        self.trainer, self.task, self.processor = trainer, trainer.task, processor
        self.heldout, self.longest, self.protocol = heldout, longest, protocol
        self.twins = [self.task.twin(row) for row in heldout[: protocol.twins]]
        self.answers: list[Answers] = []
        self.points: list[dict[str, Any]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.protocol.measure_every == 0:
            self.measure(state.global_step)

    def measure(self, step: int) -> None:
        """Add a point to the curve; nothing of the training is touched, its random stream neither.

        Of the twins, `twin_accuracy` is the share of pairs of which both answers are right: who
        guesses from the text gets one of the two at most.
        """
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        training = model.training
        model.eval()
        answers = answer(model, self.processor, self.task, self.heldout, self.longest)
        point = {"step": step, **answers.numbers(), "twin_accuracy": None}
        point |= look(model, self.processor, self.task, self.heldout, answers.texts)
        if step == 0:
            check_control(model, self.processor, self.heldout[:4], answers.texts[:4])
        if step in (0, self.protocol.steps) and any(self.twins):
            others = answer(model, self.processor, self.task, self.twins, self.longest).right
            pairs = list(zip(answers.right[: len(others)], others, strict=True))
            point["twin_accuracy"] = sum(a and b for a, b in pairs) / len(pairs)
        model.train(training)
        self.answers.append(answers)
        self.points.append(point)

    def questions(self) -> Iterator[dict[str, Any]]:
        """Per held-out question, its responses before and after and what is right about them."""
        first, last = self.answers[0], self.answers[-1]
        for index, row in enumerate(self.heldout):
            yield {
                "id": row["id"],
                "gold": row["answer"],
                **{
                    f"{name}_{when}": values[index]
                    for when, answers in (("before", first), ("after", last))
                    for name, values in (
                        ("response", answers.texts),
                        ("right", answers.right),
                        ("read", answers.read),
                    )
                },
            }


def with_costs(
    points: Sequence[dict[str, Any]],
    metrics: Sequence[dict[str, Any]],
    responses: int,
    window: int,
) -> list[dict[str, Any]]:
    """The points of a curve with what they cost so far, from the lines of `metrics.jsonl`.

    `tokens` were sampled; `passes` are responses that went through the model to be scored or
    trained on, generation apart; `seconds` are those of training, measurements apart.

    Args:
        responses: of a step.
        window: steps that a line of the log is the mean of.
    """
    steps = [line for line in metrics if "reward" in line]
    costed = []
    for point in points:
        before = [line for line in steps if line["step"] <= point["step"]]
        costed.append(
            {
                **point,
                "tokens": window * responses * sum(m["completions/mean_length"] for m in before),
                "passes": window
                * responses
                * sum(1 + m.get("scoring/extra_forward_share", 0.0) for m in before),
                "seconds": window
                * sum(
                    value
                    for m in before
                    for name, value in m.items()
                    if name.startswith("seconds/")
                ),
            }
        )
    return costed
