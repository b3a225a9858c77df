"""What `sightline train` is asked for: its own flags, the algorithm's and TRL's, in one parser."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from trl import GRPOConfig, TrlParser

from . import tasks
from .algorithms import ALGORITHMS, Algorithm, algorithm_class
from .data.dialects import named_columns
from .data.loading import POLICIES
from .flags import unknown_flag
from .prompts import find_prompt
from .records import default_folder

SHARDINGS = ("none", "fsdp")

MIX = [0.9, 0.1]  # accuracy and format, as PGPO mixes them

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
    "reward_weights": MIX,
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
    data: str | None = field(
        default=None, metadata={"help": "path or Hub id[@split] of a data set; instead of --task"}
    )
    data_root: str | None = field(
        default=None, metadata={"help": "folder of its image paths; by default that of the file"}
    )
    allow_outside_root: bool = field(
        default=False, metadata={"help": "let image paths of --data lead out of that folder"}
    )
    columns: dict[str, str] | str | None = field(
        default=None,
        metadata={"help": "its columns that are not known, as prompt=query,answer=gold or JSON"},
    )
    bad_rows: str = field(
        default="error", metadata={"help": f"of --data, one of: {', '.join(POLICIES)}"}
    )
    rows: int = field(
        default=2000, metadata={"help": "training questions to draw; with --data, at most so many"}
    )
    prompt: str = field(
        default="think-boxed", metadata={"help": "how questions of --data ask for their answer"}
    )
    min_pixels: int = field(
        default=0, metadata={"help": "smaller images are enlarged to it; 0 for the model's own"}
    )
    max_pixels: int = field(
        default=0, metadata={"help": "larger images are reduced to it; 0 for the model's own"}
    )
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
    overlong_cache: int = field(
        default=0,
        metadata={
            "help": "tokens before max_completion_length over which length is punished, by up to "
            "1 (DAPO, eq. 13); 0 for not"
        },
    )
    lora_rank: int = field(
        default=0,
        metadata={"help": "train adapters of this rank on the language model only; 0 for all"},
    )
    lora_alpha: int = field(
        default=64, metadata={"help": "adapters count lora_alpha / lora_rank times"}
    )
    processes: int = field(
        default=0, metadata={"help": "refuse to start on another number of them; 0 for any"}
    )
    sharding: str = field(
        default="none",
        metadata={"help": f"what accelerate is to be set to: {', '.join(SHARDINGS)}"},
    )
    dry_run: bool = field(
        default=False, metadata={"help": "say what the run would be and cost, and do nothing"}
    )
    threads: int = field(default=2, metadata={"help": "CPU threads; numbers depend on it"})

    def __post_init__(self):
        for name in ("rows", "threads", "lora_alpha"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lora_rank", "processes", "min_pixels", "max_pixels", "overlong_cache"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name} must be at least 0, got {getattr(self, name)}")
        if 0 < self.max_pixels < self.min_pixels:
            raise ValueError(
                f"--max_pixels must be at least --min_pixels, {self.min_pixels}, got "
                f"{self.max_pixels}"
            )
        if self.sharding not in SHARDINGS:
            raise ValueError(f"--sharding must be one of {SHARDINGS}, got {self.sharding!r}")

    def named_columns(self) -> dict[str, str] | None:
        """`columns` as a mapping."""
        return named_columns(self.columns)


class Glance(NamedTuple):
    """Algorithm and model, which decide what flags there are and what they default to."""

    algorithm: str
    model: str


def first_look(argv: Sequence[str]) -> Glance:
    """What the flags and the YAML of `--config` name, before there is a parser for them."""
    glance = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    glance.add_argument("--config", type=Path)
    glance.add_argument("--algorithm")
    glance.add_argument("--model")
    found, _ = glance.parse_known_args(argv)
    config: Mapping[str, Any] = {}
    if found.config:
        try:
            config = yaml.safe_load(found.config.read_text()) or {}
        except FileNotFoundError as error:
            raise ValueError(
                f"--config {found.config}: there is no such file; recipes/ holds some to begin with"
            ) from error
        except yaml.YAMLError as error:
            raise ValueError(f"{found.config} is not YAML: {error}") from error
        if not isinstance(config, dict):
            raise ValueError(f"{found.config} must hold a YAML mapping of flags to values")
    defaults = RunArguments()
    return Glance(
        found.algorithm or config.get("algorithm", defaults.algorithm),
        found.model or str(config.get("model", defaults.model)),
    )


def parse(argv: Sequence[str]) -> tuple[RunArguments, Algorithm, GRPOConfig]:
    """Flags over the YAML of `--config` over defaults; a flag that does not exist is an error."""
    name, model_name = first_look(argv)
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
    return run, algorithm, args


def rewards_of(run: RunArguments) -> list[str]:
    """What a run is rewarded for: the format too where the prompt asks for a boxed answer."""
    if run.data is None:
        return ["exact_answer", "think_format"]
    boxed = find_prompt(run.prompt).extractor == "boxed-last"
    return ["accuracy", "think_format"] if boxed else ["accuracy"]


def check_rewards(run: RunArguments, args: GRPOConfig) -> None:
    """Raise unless weights and dynamic sampling fit the rewards there are."""
    names = rewards_of(run)
    if run.overlong_cache > (args.max_completion_length or 0):
        raise ValueError(
            f"--overlong_cache must be at most max_completion_length, "
            f"{args.max_completion_length}, got {run.overlong_cache}"
        )
    if args.reward_weights is not None and len(args.reward_weights) != len(names):
        raise ValueError(
            f"--reward_weights must be one per reward, {names}, got {args.reward_weights}"
        )
    named = run.dynamic_sampling_reward
    if named is not None and (run.data is not None or named not in names):
        raise ValueError(
            f"--dynamic_sampling_reward must be one of {names}, and left out with --data, whose "
            f"rewards are one sum; got {named!r}"
        )


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
