"""`sightline train`: the same trainer for any model and task, with TRL's own flags."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoProcessor
from trl import GRPOConfig, TrlParser

from . import tasks
from .algorithms import ALGORITHMS, algorithm_class
from .demo import SETTINGS
from .engines.trl import PerceptionGRPOTrainer, show_readable_progress
from .flags import unknown_flag
from .records import (
    default_folder,
    environment,
    new_run_folder,
    telling_what_is_kept,
    write_json,
)
from .rewards import exact_answer, think_format
from .warm_start import load_warm_model


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


def train(argv: Sequence[str]) -> None:
    """Parse flags and the YAML of `--config`, train, leave a run folder with a checkpoint."""
    name, model_name = _first_look(argv)
    kinds: Any = (RunArguments, algorithm_class(name), GRPOConfig)
    parser = TrlParser(kinds, prog="sightline train", allow_abbrev=False)
    parser.set_defaults(output_dir=str(default_folder(f"train-{name}")), report_to="none")
    if model_name == "tiny":
        parser.set_defaults(**SETTINGS)
    run, algorithm, args, unknown = parser.parse_args_and_config(
        argv, return_remaining_strings=True
    )
    if unknown:
        raise ValueError(unknown_flag(unknown[0], parser._option_string_actions))
    task = tasks.load(run.task)
    rows = task.rows(run.rows, seed=args.seed)
    model, processor = _load(run.model, args, task)
    folder = new_run_folder(Path(args.output_dir or ""))
    write_json(
        folder / "run.json",
        {
            "command": " ".join(["sightline", "train", *argv]),
            "algorithm": {"name": name, **asdict(algorithm)},
            "model": {"name": run.model},
            "task": run.task,
            "rows": run.rows,
            "seed": args.seed,
            "threads": torch.get_num_threads(),
            "settings": args.to_sanitized_dict(),
            "versions": environment(),
        },
    )
    trainer = PerceptionGRPOTrainer(
        model=model,
        processing_class=processor,
        algorithm=algorithm,
        reward_funcs=[exact_answer, think_format],
        train_dataset=rows,
        args=args,
    )
    show_readable_progress(trainer)
    with telling_what_is_kept(folder):
        trainer.train()
        trainer.save_model(str(folder / "checkpoint"))
    print(f"checkpoint: {folder / 'checkpoint'}\nreport: sightline report {folder}")


def _first_look(argv: Sequence[str]) -> tuple[str, str]:
    """Algorithm and model, which decide what flags there are and what they default to."""
    glance = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    glance.add_argument("--config", type=Path)
    glance.add_argument("--algorithm")
    glance.add_argument("--model")
    found, _ = glance.parse_known_args(argv)
    config: Mapping[str, Any] = {}
    if found.config:
        config = yaml.safe_load(found.config.read_text()) or {}
        if not isinstance(config, dict):
            raise ValueError(f"{found.config} must hold a YAML mapping of flags to values")
    defaults = RunArguments()
    return (
        found.algorithm or config.get("algorithm", defaults.algorithm),
        found.model or config.get("model", defaults.model),
    )


def _load(name: str, args: GRPOConfig, task: Any) -> tuple[Any, Any]:
    """The model as TRL takes it, and its processor."""
    if name == "tiny":
        return load_warm_model(task, args.seed)
    is_path = name.startswith((".", "/", "~")) or name.count("/") != 1
    if is_path and not (Path(name).expanduser() / "config.json").is_file():
        raise FileNotFoundError(
            f"no model at {name!r}: give a folder with a config.json, a Hub id such as "
            "Qwen/Qwen2.5-VL-3B-Instruct, or tiny"
        )
    return name, AutoProcessor.from_pretrained(name, padding_side="left")
