"""`sightline train`: the same trainer for any model and task, with TRL's own flags."""

import argparse
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import AutoConfig, AutoProcessor
from trl import GRPOConfig, TrlParser

from . import tasks
from .algorithms import ALGORITHMS, Algorithm, algorithm_class
from .checkpoints import check_same_run, newest_whole
from .engines.trl import (
    DynamicSampling,
    PerceptionGRPOTrainer,
    StopOnSignal,
    show_readable_progress,
)
from .families import family_of
from .flags import unknown_flag
from .process import quiet_libraries, use_threads
from .records import (
    default_folder,
    environment,
    new_run_folder,
    telling_what_is_kept,
    write_json,
)
from .rewards import THINK_BOXED, exact_answer, think_format
from .warm_start import load_warm_model

TINY_SETTINGS = {  # of GRPOConfig, for the tiny model on a CPU: DAPO's loss on small batches
    "learning_rate": 1e-4,
    "lr_scheduler_type": "linear",
    "max_grad_norm": 1.0,
    "per_device_train_batch_size": 128,
    "num_generations": 8,
    "max_completion_length": 64,
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


@dataclass
class RunArguments:
    """What is trained on what; every other flag is the algorithm's own or TRL's."""

    algorithm: str = field(
        default="pgpo", metadata={"help": f"one of: {', '.join(ALGORITHMS)}; see its flags below"}
    )
    model: str = field(
        default="tiny", metadata={"help": "tiny (the demo's), a folder, or a model of the Hub"}
    )
    task: str = field(default="digits", metadata={"help": f"one of: {', '.join(tasks.NAMES)}"})
    rows: int = field(default=2000, metadata={"help": "training questions to draw"})
    entropy_penalty: float = field(
        default=0.0, metadata={"help": "coefficient of the mean of -log p, as in VPPO's code: 0.06"}
    )
    dynamic_sampling_rounds: int = field(
        default=0,
        metadata={"help": "sample until groups differ in reward, for so many rounds; 0 for not"},
    )
    dynamic_sampling_reward: str | None = field(
        default=None, metadata={"help": "the reward that must differ; by default their sum"}
    )
    dynamic_sampling_short: str = field(
        default="keep", metadata={"help": "if rounds run out: keep, skip or error"}
    )
    threads: int = field(default=2, metadata={"help": "CPU threads; numbers depend on it"})


def train(argv: Sequence[str]) -> None:
    """Parse flags and the YAML of `--config`, train, leave a run folder with a checkpoint."""
    quiet_libraries()
    name, model_name = _first_look(argv)
    check_model(model_name)
    kinds: Any = (RunArguments, algorithm_class(name), GRPOConfig)
    parser = TrlParser(kinds, prog="sightline train", allow_abbrev=False)
    parser.set_defaults(output_dir=str(default_folder(f"train-{name}")), report_to="none")
    # TRL's default drops whole responses (T58); read with --use_vllm alone
    parser.set_defaults(vllm_importance_sampling_mode="token_truncate")
    if not torch.cuda.is_available():
        parser.set_defaults(use_cpu=True, bf16=False)
    if model_name == "tiny":
        parser.set_defaults(**TINY_SETTINGS)
    run, algorithm, args, unknown = parser.parse_args_and_config(
        argv, return_remaining_strings=True
    )
    if unknown:
        raise ValueError(_unknown(unknown[0], name, parser))
    for flag in ("rows", "threads"):
        if getattr(run, flag) < 1:
            raise ValueError(f"--{flag} must be at least 1, got {getattr(run, flag)}")
    task = tasks.load(run.task)
    use_threads(run.threads)
    # The warm-started tiny model answers in the format by itself; others have to be told.
    instruction = "" if run.model == "tiny" else THINK_BOXED
    rows = task.rows(run.rows, seed=args.seed, instruction=instruction)
    model, processor = _load(run.model, args, task)
    about = {
        "model": run.model,
        "task": run.task,
        "rows": run.rows,
        "entropy_penalty": run.entropy_penalty,
        "dynamic_sampling": {
            "rounds": run.dynamic_sampling_rounds,
            "reward": run.dynamic_sampling_reward,
            "short": run.dynamic_sampling_short,
        },
        "data_sha256": task.fingerprint(),
    }
    # by default a free name, which another process may have seen taken by the first
    args.output_dir = broadcast_object_list([str(args.output_dir)])[0]
    folder, main = Path(args.output_dir), args.process_index == 0
    content = description(algorithm, name, args, about)
    checkpoint = _open(folder, content, args)
    rounds = run.dynamic_sampling_rounds
    sampling = rounds and DynamicSampling(
        rounds, run.dynamic_sampling_reward, run.dynamic_sampling_short
    )
    trainer = build_trainer(
        model,
        processor,
        algorithm,
        rows,
        args,
        entropy_penalty=run.entropy_penalty,
        dynamic_sampling=sampling or None,
    )
    if checkpoint is None and main:  # not before: a request that fails leaves an empty folder
        write_json(folder / "run.json", content)
    with telling_what_is_kept(folder):
        reinforce(trainer, checkpoint)
    if main:
        print(f"checkpoint: {folder / 'checkpoint'}\nreport: sightline report {folder}")


def _open(folder: Path, content: dict[str, Any], args: GRPOConfig) -> Path | None:
    """Make `folder` for a new run, or find in it where `--resume_from_checkpoint` goes on."""
    main = args.process_index == 0
    if not args.resume_from_checkpoint:
        if main:
            new_run_folder(folder)
        PartialState().wait_for_everyone()
        return None
    begun = check_same_run(folder, content)
    if args.resume_from_checkpoint == "newest":
        checkpoint = newest_whole(folder)
    else:
        checkpoint = Path(args.resume_from_checkpoint)
    resumed = {key: content[key] for key in ("command", "versions")} | {"from": checkpoint.name}
    PartialState().wait_for_everyone()  # all have read it
    if main:
        write_json(folder / "run.json", {**begun, "resumed": [*begun.get("resumed", []), resumed]})
    return checkpoint


def build_trainer(
    model: Any,
    processor: Any,
    algorithm: Algorithm,
    rows: list[dict],
    args: GRPOConfig,
    **options: Any,
) -> PerceptionGRPOTrainer:
    """The trainer of `model` on `rows`, rewarded for the answer and its format.

    Args:
        options: of `PerceptionGRPOTrainer`.
    """
    trainer = PerceptionGRPOTrainer(
        model=model,
        processing_class=processor,
        algorithm=algorithm,
        reward_funcs=[exact_answer, think_format],
        train_dataset=rows,
        args=args,
        **options,
    )
    show_readable_progress(trainer)
    return trainer


def reinforce(trainer: PerceptionGRPOTrainer, checkpoint: Path | None = None) -> float:
    """Train, and save the model as `checkpoint` in the run folder.

    On SIGTERM it saves a checkpoint after the step at hand and leaves with exit code 143.

    Args:
        checkpoint: where to go on, or None to begin.

    Returns:
        The seconds spent on scoring views.
    """
    stop = StopOnSignal(trainer)
    trainer.add_callback(stop)
    trainer.train(checkpoint and str(checkpoint))
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


def _unknown(flag: str, name: str, parser: argparse.ArgumentParser) -> str:
    """What to say about a flag that this command does not have."""
    owners = [
        other
        for other in ALGORITHMS
        if flag.lstrip("-").split("=")[0] in {f.name for f in fields(algorithm_class(other))}
    ]
    if owners:
        return f"{flag} is a flag of --algorithm {' or '.join(owners)}, not of {name}"
    return unknown_flag(flag, parser._option_string_actions)


def _first_look(argv: Sequence[str]) -> tuple[str, str]:
    """Algorithm and model, which decide what flags there are and what they default to."""
    glance = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    glance.add_argument("--config", type=Path)
    glance.add_argument("--algorithm")
    glance.add_argument("--model")
    found, _ = glance.parse_known_args(argv)
    config: Mapping[str, Any] = {}
    if found.config:
        try:
            config = yaml.safe_load(found.config.read_text()) or {}
        except yaml.YAMLError as error:
            raise ValueError(f"{found.config} is not YAML: {error}") from error
        if not isinstance(config, dict):
            raise ValueError(f"{found.config} must hold a YAML mapping of flags to values")
    defaults = RunArguments()
    return (
        found.algorithm or config.get("algorithm", defaults.algorithm),
        found.model or str(config.get("model", defaults.model)),
    )


def command_line() -> str:
    """This process's command, without the values of flags that hold secrets."""
    words = ["sightline", *sys.argv[1:]]
    secret = re.compile(r"(--\w*(?:token|key))(=.*)?")
    for index, word in enumerate(words):
        if found := secret.fullmatch(word):
            words[index] = found[1]
            if found[2] is None and index + 1 < len(words):
                words[index + 1] = "***"
    return shlex.join(words)


def check_model(name: str) -> None:
    """Raise unless `name` is tiny, or a folder or a place on the Hub with a model of a family."""
    is_path = name.startswith((".", "/", "~")) or name.count("/") != 1
    if name != "tiny" and is_path and not (Path(name).expanduser() / "config.json").is_file():
        raise FileNotFoundError(
            f"no model at {name!r}: give a folder with a config.json, a Hub id such as "
            "Qwen/Qwen2.5-VL-3B-Instruct, or tiny"
        )
    if name != "tiny":
        family_of(
            AutoConfig.from_pretrained(Path(name).expanduser() if is_path else name).model_type
        )


def _load(name: str, args: GRPOConfig, task: Any) -> tuple[Any, Any]:
    """The model as TRL takes it, and its processor."""
    if name == "tiny":
        return load_warm_model(task, args.seed)
    name = str(Path(name).expanduser()) if name.startswith("~") else name
    return name, AutoProcessor.from_pretrained(name, padding_side="left")
