"""A training step, or its weights, on two processes: what comes out must not depend on it."""

import os
import socket
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, multiprocessing
from trl import GRPOConfig

from sightline import PGPO, VPPO
from sightline.engines.trl import DynamicSampling, PerceptionGRPOTrainer, seam
from sightline.tasks import digits


def place_in_group(completions, **columns):
    """A reward that differs between the equal responses of greedy decoding."""
    return [float(index % 4 in (0, 3)) for index in range(len(completions))]


def step(tiny, folder: Path, processes: int) -> dict[str, Tensor]:
    """The parameters after a step on 2 prompts x 4 responses, shared among the processes."""
    if processes == 1:
        _train(0, tiny, folder, 8, folder / "one.pt")
        return torch.load(folder / "one.pt")
    run(_train, tiny, folder, 8 // processes, folder / "many.pt", processes=processes)
    return torch.load(folder / "many.pt")


def run(function, *args, processes: int = 2) -> None:
    """Call `function(rank, *args)` in this many processes that can talk to each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # forked, for importing everything anew takes longer than training
    multiprocessing.start_processes(
        _join, (function, args, processes, port), processes, start_method="fork"
    )


def weigh(rank: int, algorithm, scores: list[dict], masks: list[Tensor], folder: Path) -> None:
    """Weigh this process's rows among those of all."""
    trainer = object.__new__(PerceptionGRPOTrainer)
    trainer.accelerator = Accelerator(cpu=True)
    weights = seam.whole_batch_weights(trainer, algorithm, scores[rank], masks[rank])
    torch.save(weights, folder / f"weights-{rank}.pt")


def fill(rank: int, tiny, folder: Path) -> None:
    """Fill a batch of 2 groups of 4 a process with questions of which the first three never do."""

    def last_three(completions, **columns):
        return [
            float(row % 4 in (0, 3) and name[-1] in "345") for row, name in enumerate(columns["id"])
        ]

    trainer = _trainer(
        tiny,
        folder / "filled",
        8,
        algorithm=PGPO(),
        reward_funcs=last_three,
        train_dataset=digits.rows(6, seed=1),
        dynamic_sampling=DynamicSampling(),
    )
    trainer.model.train()
    questions = digits.rows(6, seed=1)[2 * rank : 2 * rank + 2]
    batch = trainer._generate_and_score_completions([row for row in questions for _ in range(4)])
    batch["rounds"] = trainer._metrics["train"]["sampling/rounds"]
    kept = ("rounds", "row_ids", "advantages", "completion_mask")
    torch.save({name: batch[name] for name in kept}, folder / f"filled-{rank}.pt")


def _join(rank: int, function, args: tuple, processes: int, port: int) -> None:
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    AcceleratorState._reset_state(reset_partial_state=True)
    function(rank, *args)


def _train(_rank: int, tiny, folder: Path, rows: int, output: Path) -> None:
    trainer = _trainer(
        tiny,
        folder / f"run-{rows}",
        rows,
        algorithm=VPPO(scale_min=0.5),
        reward_funcs=place_in_group,
        train_dataset=digits.rows(4, seed=1),
    )
    trainer.train()
    if trainer.accelerator.is_main_process:
        torch.save({name: p.detach() for name, p in trainer.model.named_parameters()}, output)


def _trainer(tiny, folder: Path, rows: int, **options) -> PerceptionGRPOTrainer:
    return PerceptionGRPOTrainer(
        model=tiny.model,
        processing_class=tiny.processor,
        args=GRPOConfig(
            output_dir=str(folder),
            per_device_train_batch_size=rows,
            num_generations=4,
            max_completion_length=6,
            generation_kwargs={"do_sample": False},
            max_steps=1,
            learning_rate=1.0,
            optim="sgd",
            max_grad_norm=0.0,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
            logging_steps=1,
        ),
        **options,
    )
