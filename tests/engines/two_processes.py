"""Training, or its weights, on two processes: what comes out must not depend on it."""

import copy
import os
import socket
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch import Tensor, multiprocessing
from torch.distributed.tensor import DTensor
from trl import GRPOConfig

from sightline import ALGORITHMS, PGPO
from sightline.engines.trl import DynamicSampling, PerceptionGRPOTrainer, seam
from sightline.tasks import digits


def sample(probabilities: Tensor, num_samples: int) -> Tensor:
    """For `torch.multinomial`: each row of a group of 4 draws its own, wherever the group is."""
    likeliest = probabilities.topk(4).indices
    rows = torch.arange(len(probabilities))
    return likeliest[rows, rows % 4][:, None]


def place_in_group(completions, **columns):
    """A reward that differs between the responses of any group."""
    return [float(index % 4 in (0, 3)) for index in range(len(completions))]


def train_all(tiny, folder: Path, processes: int) -> dict[str, Any]:
    """Per algorithm, the parameters after 3 steps on 2 prompts x 4 responses, and its curve."""
    output = folder / f"{processes}.pt"
    run(_train_all, tiny, folder, 8 // processes, output, processes=processes)
    return torch.load(output)


def train_sharded(rank: int, tiny, folder: Path) -> None:
    """Train PGPO on a model that FSDP 2 shards, to the end and again from a checkpoint."""
    os.environ |= {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_TRANSFORMER_CLS_TO_WRAP": "Qwen2_5_VLDecoderLayer",
        "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    }
    torch.multinomial = sample
    for name in ("whole", "resumed"):
        trainer = _trainer(
            copy.deepcopy(tiny),
            folder / "sharded",
            4,
            algorithm=PGPO(),
            reward_funcs=place_in_group,
            train_dataset=digits.rows(4, seed=1),
            save_strategy="steps",
        )
        trainer.train(str(folder / "sharded" / "checkpoint-2") if name == "resumed" else None)
        assert isinstance(next(trainer.model.parameters()), DTensor)
        end = trainer.accelerator.get_state_dict(trainer.model)
        if rank == 0:
            torch.save((end, curve_of(trainer)), folder / f"{name}.pt")
    trainer.save_model(str(folder / "saved"))


def curve_of(trainer: Any) -> list[tuple[float, float]]:
    """Loss and gradient norm of each step."""
    return [(h["loss"], h["grad_norm"]) for h in trainer.state.log_history if "reward" in h]


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


def _train_all(_rank: int, tiny, folder: Path, rows: int, output: Path) -> None:
    results, torch.multinomial = {}, sample
    for name, algorithm in ALGORITHMS.items():
        trainer = _trainer(
            copy.deepcopy(tiny),
            folder / f"run-{name}-{rows}",
            rows,
            algorithm=algorithm(),
            reward_funcs=place_in_group,
            train_dataset=digits.rows(4, seed=1),
        )
        trainer.train()
        end = {name: p.detach() for name, p in trainer.model.named_parameters()}
        results[name] = end, curve_of(trainer)
    if trainer.accelerator.is_main_process:
        torch.save(results, output)


def _trainer(tiny, folder: Path, rows: int, save_strategy="no", **options) -> PerceptionGRPOTrainer:
    args = GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=rows,
        num_generations=4,
        max_completion_length=6,
        max_steps=3,
        learning_rate=0.02,
        optim="sgd",
        max_grad_norm=1e9,  # so that a step is the gradient
        save_strategy=save_strategy,
        save_steps=2,
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
        logging_steps=1,
    )
    if "ACCELERATE_USE_FSDP" in os.environ:
        args.distributed_state.distributed_type = DistributedType.MULTI_GPU
    return PerceptionGRPOTrainer(
        model=tiny.model, processing_class=tiny.processor, args=args, **options
    )
