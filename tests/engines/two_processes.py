"""Training, or its weights, on two processes: what comes out must not depend on it."""

import copy
import json
import os
import pickle
import socket
import warnings
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch import Tensor, multiprocessing
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback
from trl import GRPOConfig

from sightline import ALGORITHMS, PGPO, checkpoints
from sightline.engines.trl import DynamicSampling, PerceptionGRPOTrainer, find_whole, seam
from sightline.tasks import digits

NAMES = ("grpo", "pgpo", "vppo")  # without views, each row by itself, over the whole batch


def sample(probabilities: Tensor, num_samples: int) -> Tensor:
    """For `torch.multinomial`: each row of a group of 4 draws its own, wherever the group is.

    Whatever the probabilities: of two that are almost equal rounding would decide which is drawn.
    """
    return torch.tensor([11, 23, 37, 51])[torch.arange(len(probabilities)) % 4][:, None]


def place_in_group(completions, **columns):
    """A reward that differs between the responses of any group."""
    return [float(index % 4 in (0, 3)) for index in range(len(completions))]


def train_all(tiny, folder: Path, processes: int, names=NAMES) -> dict[str, Any]:
    """Per algorithm, the parameters after 4 steps on 2 prompts x 4 responses, curve and metrics."""
    output = folder / f"{processes}.pt"
    run(_train_all, tiny, folder, 8 // processes, output, names, processes=processes)
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
            torch.save((end, curve_of(trainer), metrics_of(trainer)), folder / f"{name}.pt")
    trainer.save_model(str(folder / "saved"))
    checkpoint = folder / "sharded" / "checkpoint-2"
    if rank == 0:
        table = next(checkpoint.glob("optimizer_0/.metadata"))
        table.write_bytes(pickle.dumps(_Payload(folder / "was run")))
        _describe_again(checkpoint, table)
    _train_refused(rank, trainer, checkpoint, folder)


DEEPSPEED = {  # what `accelerate launch` makes of recipes/accelerate/deepspeed_zero2.yaml
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2",
    "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "none",
    "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "none",
}


def train_with_deepspeed(rank: int, tiny, folder: Path) -> None:
    """Train PGPO with what DeepSpeed shards, to the end and again from a checkpoint."""
    os.environ |= DEEPSPEED
    torch.multinomial = sample
    for name in ("whole", "resumed"):
        trainer = _trainer(
            copy.deepcopy(tiny),
            folder / "deepspeed",
            2,
            accumulation=2,
            algorithm=PGPO(),
            reward_funcs=place_in_group,
            train_dataset=digits.rows(4, seed=1),
            save_strategy="steps",
        )
        checkpoint = folder / "deepspeed" / "checkpoint-2"
        trainer.train(str(checkpoint) if name == "resumed" else None)
        if rank == 0:
            end = {name: p.detach() for name, p in trainer.model.named_parameters()}
            torch.save((end, curve_of(trainer), metrics_of(trainer)), folder / f"{name}.pt")
    trainer.save_model(str(folder / "saved"))
    trainer.accelerator.wait_for_everyone()
    if rank == 0:
        file = next(checkpoint.glob("global_step*/mp_rank_00_model_states.pt"))
        torch.save({"module": _Payload(folder / "was run")}, file)
        _describe_again(checkpoint, file)
    _train_refused(rank, trainer, checkpoint, folder)


class _Payload:
    """What unpickling would run."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def _describe_again(checkpoint: Path, file: Path) -> None:
    """Say in the manifest that a file that was changed belongs there."""
    manifest = checkpoint / checkpoints.MANIFEST
    listed = json.loads(manifest.read_text())
    listed["files"][file.relative_to(checkpoint).as_posix()] = checkpoints._describe(file)
    manifest.write_text(json.dumps(listed))


def _train_refused(rank: int, trainer: Any, checkpoint: Path, folder: Path) -> None:
    """Resume from a checkpoint that one process has spoiled, and leave what was said."""
    trainer.accelerator.wait_for_everyone()
    try:
        trainer.train(str(checkpoint))
    except ValueError as error:
        (folder / f"refused-{rank}").write_text(str(error))


def skip_with_deepspeed(rank: int, tiny, folder: Path) -> None:
    """Train with an infinite reward on the first process, at the second step and from the fourth.

    Leaves the weights before each step, and what was said.
    """
    os.environ |= DEEPSPEED
    seen = []

    class Watch(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            weights = trainer.model.named_parameters()
            seen.append({name: p.detach().clone() for name, p in weights})

    def reward(completions, **columns):
        broken = rank == 0 and trainer.state.global_step in (1, 3, 4, 5)
        return [float("inf") if broken else 1.0, *place_in_group(completions)[1:]]

    trainer = _trainer(
        copy.deepcopy(tiny),
        folder / "skipped",
        4,
        algorithm=PGPO(),
        reward_funcs=reward,
        train_dataset=digits.rows(4, seed=1),
        optim="adamw_torch",  # which a gradient of 0 would move
        max_steps=9,
    )
    trainer.add_callback(Watch())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            trainer.train()
        except FloatingPointError as error:
            stopped = str(error)
    said = next(str(w.message) for w in told if "not finite" in str(w.message))
    content = {"weights": seen, "said": said, "stopped": stopped}
    torch.save(content, folder / f"skipped-{rank}.pt")


def curve_of(trainer: Any) -> list[tuple[float, float]]:
    """Loss and gradient norm of each step."""
    return [(h["loss"], h["grad_norm"]) for h in trainer.state.log_history if "reward" in h]


def metrics_of(trainer: Any) -> list[dict[str, float]]:
    """What was logged of each step's scores and weights."""
    ours = ("dependency/", "weights/", "scoring/")
    lines = [h for h in trainer.state.log_history if "reward" in h]
    return [{name: h[name] for name in h if name.startswith(ours)} for h in lines]


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


def look(rank: int, folder: Path) -> None:
    """Look for the newest whole checkpoint, and for a damaged one, which only one process reads."""
    warnings.simplefilter("ignore")
    PartialState(cpu=True)
    if rank == 1:
        checkpoints.damage = checkpoints.all_of = None
    newest = find_whole(folder, True).folder.name
    try:
        find_whole(folder, folder / "checkpoint-2")
    except ValueError as error:
        (folder / f"found-{rank}.json").write_text(json.dumps([newest, str(error)]))


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


def _train_all(_rank: int, tiny, folder: Path, rows: int, output: Path, names) -> None:
    results, torch.multinomial = {}, sample
    for name in names:
        trainer = _trainer(
            copy.deepcopy(tiny),
            folder / f"run-{name}-{rows}",
            rows,
            algorithm=ALGORITHMS[name](),
            reward_funcs=place_in_group,
            train_dataset=digits.rows(4, seed=1),
        )
        trainer.train()
        end = {name: p.detach() for name, p in trainer.model.named_parameters()}
        results[name] = end, curve_of(trainer), metrics_of(trainer)
    if trainer.accelerator.is_main_process:
        torch.save(results, output)


def _trainer(
    tiny,
    folder: Path,
    rows: int,
    save_strategy="no",
    optim="sgd",
    max_steps=4,
    accumulation=1,
    **options,
) -> PerceptionGRPOTrainer:
    args = GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=accumulation,
        num_generations=4,
        max_completion_length=6,
        max_steps=max_steps,
        learning_rate=0.02,
        optim=optim,
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
