"""`sightline train`: the same trainer for any model and task, with TRL's own flags."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from peft import LoraConfig
from trl import GRPOConfig
from trl.rewards import get_soft_overlong_punishment

from . import tasks
from .algorithms import Algorithm
from .checkpoints import check_same_run
from .data import load_rows
from .dry_run import page
from .engines.trl import (
    DynamicSampling,
    PerceptionGRPOTrainer,
    StopOnSignal,
    Whole,
    find_whole,
    show_readable_progress,
)
from .model_shape import ADAPTED, model_place
from .models import check_model, load_processor
from .process import quiet_libraries, use_threads
from .prompts import find_prompt
from .records import (
    command_line,
    environment,
    leaving_no_empty_folder,
    new_run_folder,
    telling_what_is_kept,
    write_json,
)
from .rewards import THINK_BOXED, Mixed, Verifier, exact_answer, think_format
from .run_arguments import MIX, RunArguments, check_rewards, first_look, parse, rewards_of
from .warm_start import load_warm_model


def train(argv: Sequence[str]) -> None:
    """Parse flags and the YAML of `--config`, train, leave a run folder with a checkpoint."""
    quiet_libraries()
    check_model(first_look(argv).model)
    run, algorithm, args = parse(argv)
    sampling_of(run)  # raises
    if run.dry_run:
        print(page(run, algorithm, args))
        return
    check_rewards(run, args)
    check_launch(run, args)
    use_threads(run.threads)
    # by default a free name, which another process may have seen taken by the first
    args.output_dir = broadcast_object_list([str(args.output_dir)])[0]
    folder, main = Path(args.output_dir), args.process_index == 0
    with leaving_no_empty_folder(folder):
        if not args.resume_from_checkpoint:
            if main:
                new_run_folder(folder)
            PartialState().wait_for_everyone()
        trainer, content, checkpoint = _prepared(run, algorithm, args, folder)
    if main:
        write_json(folder / "run.json", content)
    with telling_what_is_kept(folder):
        reinforce(trainer, checkpoint)
    if main:
        print(f"checkpoint: {folder / 'checkpoint'}\nreport: sightline report {folder}")


def check_launch(run: RunArguments, args: GRPOConfig) -> None:
    """Raise unless the run was started as it was planned: its batches and its memory hang on it."""
    if run.processes not in (0, args.world_size):
        raise ValueError(
            f"the run is planned for {run.processes} processes, got {args.world_size}: start it "
            f"with accelerate launch --num_processes {run.processes}, or change --processes and "
            "the batch settings with it"
        )
    shards = os.environ.get("ACCELERATE_USE_FSDP", "false") == "true"
    if run.sharding == "fsdp" and not shards:
        raise ValueError(
            f"the run is planned for --sharding {run.sharding}, and accelerate is not set to it: "
            "start it with accelerate launch --config_file, see recipes/accelerate"
        )
    if shards and run.sharding != "fsdp":
        raise ValueError(
            f"the run is planned for --sharding {run.sharding}, and accelerate is set to FSDP: add "
            "--sharding fsdp, or start it with recipes/accelerate/ddp.yaml"
        )


def adapters(run: RunArguments) -> LoraConfig | None:
    """LoRA on the language model's attention and MLP, as TRL takes it; None to train it all."""
    if not run.lora_rank:
        return None
    return LoraConfig(r=run.lora_rank, lora_alpha=run.lora_alpha, target_modules=ADAPTED)


def _prepared(
    run: RunArguments, algorithm: Algorithm, args: GRPOConfig, folder: Path
) -> tuple[PerceptionGRPOTrainer, dict[str, Any], Whole | None]:
    """The trainer, what `run.json` is to say, and the checkpoint to go on from."""
    rows, source = _rows(run, args, folder)
    model, processor = load_model(run, args)
    reward_funcs, rewards = _rewards(run, args)
    sampling = sampling_of(run)
    about = {
        "model": run.model,
        **source,
        "rewards": rewards,
        "rows": run.rows,
        "pixels": [run.min_pixels, run.max_pixels],
        "lora": {"rank": run.lora_rank, "alpha": run.lora_alpha},
        "entropy_penalty": run.entropy_penalty,
        "dynamic_sampling": {
            "rounds": run.dynamic_sampling_rounds,
            "reward": run.dynamic_sampling_reward,
            "short": run.dynamic_sampling_short,
        },
    }
    content, checkpoint = description(algorithm, run.algorithm, args, about), None
    if args.resume_from_checkpoint:
        content, checkpoint = _resumed(folder, content, args)
    trainer = build_trainer(
        model,
        processor,
        algorithm,
        rows,
        args,
        reward_funcs=reward_funcs,
        entropy_penalty=run.entropy_penalty,
        dynamic_sampling=sampling,
        peft_config=adapters(run),
    )
    return trainer, content, checkpoint


def sampling_of(run: RunArguments) -> DynamicSampling | None:
    """Dynamic sampling as asked for."""
    rounds, reward = run.dynamic_sampling_rounds, run.dynamic_sampling_reward
    return DynamicSampling(rounds, reward, run.dynamic_sampling_short) if rounds else None


def _rows(run: RunArguments, args: GRPOConfig, folder: Path) -> tuple[Any, dict[str, Any]]:
    """What is trained on, and what `run.json` says of where it comes from."""
    if run.data is None:
        about = {"task": run.task, "data_sha256": tasks.load(run.task).fingerprint()}
        return task_rows(run, args), about
    found = load_rows(
        run.data,
        prompt=find_prompt(run.prompt),
        root=run.data_root,
        columns=run.named_columns(),
        bad_rows=run.bad_rows,
        folder=folder if run.bad_rows == "skip-and-list" else None,
        allow_outside_root=run.allow_outside_root,
    )
    rows = found.dataset.select(range(min(run.rows, len(found))))
    return rows, {"data": found.about()}


def task_rows(run: RunArguments, args: GRPOConfig) -> list[dict]:
    """The questions of the built-in task that a run trains on."""
    # The warm-started tiny model answers in the format by itself; others have to be told.
    instruction = "" if run.model == "tiny" else THINK_BOXED
    return tasks.load(run.task).rows(run.rows, seed=args.seed, instruction=instruction)


def _rewards(run: RunArguments, args: GRPOConfig) -> tuple[list[Any], dict[str, Any]]:
    """The reward functions, and what `run.json` says of them.

    `--data` is judged by the verifier; its mix with the format is one function, for TRL would take
    an accuracy that could not be computed for 0 (`Mixed`).
    """
    names = rewards_of(run)
    weights = list(args.reward_weights or (MIX if len(names) == 2 else [1.0]))
    functions: list[Any] = [exact_answer, think_format]
    about: dict[str, Any] = {}
    if run.data is not None:
        accuracy = Verifier(find_prompt(run.prompt).extractor)
        functions = [accuracy, think_format][: len(names)]
        about["accuracy"] = accuracy.description()
    if run.overlong_cache:
        most = args.max_completion_length or 0
        functions.append(get_soft_overlong_punishment(most, run.overlong_cache))
        weights.append(1.0)
        names.append("soft_overlong_punishment")
    about["weights"] = dict(zip(names, weights, strict=True))
    args.reward_weights = weights if run.data is None else None
    mixed = [Mixed(*zip(functions, weights, strict=True))]
    return functions if run.data is None else mixed, about


def _resumed(
    folder: Path, content: dict[str, Any], args: GRPOConfig
) -> tuple[dict[str, Any], Whole]:
    """Where in `folder` `--resume_from_checkpoint` goes on, if it is this run; and its record."""
    begun = check_same_run(folder, content)
    asked = str(args.resume_from_checkpoint)
    checkpoint = find_whole(folder, asked == "newest" or asked)
    PartialState().wait_for_everyone()  # all have read run.json
    resumed = {key: content[key] for key in ("command", "versions")} | {
        "from": checkpoint.folder.name
    }
    return {**begun, "resumed": [*begun.get("resumed", []), resumed]}, checkpoint


def build_trainer(
    model: Any,
    processor: Any,
    algorithm: Algorithm,
    rows: Any,
    args: GRPOConfig,
    **options: Any,
) -> PerceptionGRPOTrainer:
    """The trainer of `model` on `rows`, with a readable log.

    Args:
        options: of `PerceptionGRPOTrainer`.
    """
    trainer = PerceptionGRPOTrainer(
        model=model,
        processing_class=processor,
        algorithm=algorithm,
        train_dataset=rows,
        args=args,
        **options,
    )
    show_readable_progress(trainer)
    return trainer


def reinforce(trainer: PerceptionGRPOTrainer, checkpoint: Whole | None = None) -> float:
    """Train, and save the model as `checkpoint` in the run folder.

    On SIGTERM it saves a checkpoint after the step at hand and leaves with exit code 143.

    Args:
        checkpoint: where to go on, or None to begin.

    Returns:
        The seconds spent on scoring views.
    """
    stop = StopOnSignal(trainer)
    trainer.add_callback(stop)
    trainer.train(checkpoint)
    if stop.stopped:
        saved = trainer.run_folder / f"checkpoint-{trainer.state.global_step}"
        if trainer.accelerator.is_main_process:
            print(f"terminated; {saved} is saved: go on with --resume_from_checkpoint newest")
        raise SystemExit(143)
    trainer.save_model(str(trainer.run_folder / "checkpoint"))
    return trainer.clock.totals["scoring"]


def description(
    algorithm: Algorithm, name: str, args: GRPOConfig, about: dict[str, Any]
) -> dict[str, Any]:
    """What `run.json` holds: everything that decides the numbers of a run."""
    return {
        "command": command_line(),
        "algorithm": {"name": name, **asdict(algorithm)},
        **about,
        "seed": args.seed,
        "threads": torch.get_num_threads(),
        "versions": environment(),
        "settings": args.to_sanitized_dict(),
    }


def load_model(run: RunArguments, args: GRPOConfig) -> tuple[Any, Any]:
    """The model as TRL takes it, and its processor."""
    name = run.model
    if name == "tiny":
        model, processor = load_warm_model(tasks.load(run.task), args.seed)
    else:
        model, processor = model_place(name), load_processor(name)
    if run.min_pixels or run.max_pixels:
        limit_pixels(processor, run.min_pixels, run.max_pixels)
    return model, processor


def limit_pixels(processor: Any, least: int, most: int) -> None:
    """Resize images to between `least` and `most` pixels; 0 leaves the processor's own limit."""
    size = dict(processor.image_processor.size)
    if not {"shortest_edge", "longest_edge"} <= set(size):
        raise ValueError(
            f"--min_pixels and --max_pixels are for processors with limits like Qwen's, got {size}"
        )
    images = processor.image_processor
    cell = (images.patch_size * images.merge_size) ** 2  # what one image token stands for
    if 0 < most < cell:
        raise ValueError(f"--max_pixels must leave an image one token, {cell}, got {most}")
    # Qwen's names for numbers of pixels
    size["shortest_edge"] = least or size["shortest_edge"]
    size["longest_edge"] = most or size["longest_edge"]
    if size["shortest_edge"] > size["longest_edge"]:
        raise ValueError(
            f"images would have at least {size['shortest_edge']} pixels and at most "
            f"{size['longest_edge']}: set both --min_pixels and --max_pixels"
        )
    processor.image_processor.size = type(processor.image_processor.size)(**size)
