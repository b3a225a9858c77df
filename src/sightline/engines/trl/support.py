"""What of TRL is supported: the self-check that every trainer makes when it is built.

What is checked here is what the contract tests cover; anything else is refused with a sentence.
Nothing turns into plain GRPO in silence.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
import transformers
import trl
from trl import GRPOTrainer
from trl.generation.vllm_generation import VLLMGeneration

from . import deepspeed
from .seam import is_sharded

TESTED = ("1.16.0",)
DISTRIBUTED = ("NO", "MULTI_CPU", "MULTI_GPU", "DEEPSPEED")
WRAPPED = {
    "_generate_and_score_completions": ["self", "inputs"],
    "_get_per_token_logps_and_entropies": [
        "self",
        "model",
        "input_ids",
        "attention_mask",
        "logits_to_keep",
        "batch_size",
        "compute_entropy",
        "compute_aux_loss",
        "pixel_values",
        "image_grid_thw",
        "num_images",
        "pixel_attention_mask",
        "spatial_shapes",
        "num_tiles",
        "image_sizes",
        "token_type_ids",
        "mm_token_type_ids",
        "image_position_ids",
    ],
    "_compute_loss": ["self", "model", "inputs"],
    "_generate": ["self", "prompts"],
    "_calculate_rewards": ["self", "inputs", "prompts", "completions", "completion_ids_list"],
    "_get_train_sampler": ["self", "dataset"],
    "_get_output_dir": ["self", "trial"],
    "_save_checkpoint": ["self", "model", "trial"],
    "_load_from_checkpoint": ["self", "resume_from_checkpoint", "model"],
}


def check_methods() -> None:
    """Raise unless TRL's methods are the ones this engine was tested with."""
    wrapped: list[tuple[type, str, list[str]]] = [
        *((GRPOTrainer, name, expected) for name, expected in WRAPPED.items()),
        (VLLMGeneration, "generate", ["self", "prompts", "images", "num_generations", "profiler"]),
    ]
    for owner, name, expected in wrapped:
        method = getattr(owner, name, None)
        found = list(inspect.signature(method).parameters) if method else None
        if found != expected:
            raise ImportError(
                f"trl {trl.__version__} with transformers {transformers.__version__} is not "
                f"supported: {owner.__name__}.{name} takes {found}, expected {expected}. Tested "
                f"with trl {', '.join(TESTED)} and transformers 5.23.0: "
                f"pip install 'trl=={TESTED[-1]}'"
            )


def check_arguments(args: Any, entropy_penalty: float) -> None:
    """Raise on an argument of TRL under which token-level credit would be wrong."""
    rows = args.per_device_train_batch_size * args.steps_per_generation
    asked = args.generation_kwargs or {}
    _refuse(
        {
            "importance_sampling_level='sequence'": (
                args.importance_sampling_level != "token",
                "one ratio per response sends its gradient to every token, whatever its weight; "
                "set importance_sampling_level='token'",
            ),
            f"entropy_penalty={entropy_penalty} with loss_type={args.loss_type!r}": (
                entropy_penalty != 0 and args.loss_type != "dapo",
                "it is a mean over the tokens of the batch, as DAPO's loss is; set "
                "loss_type='dapo'",
            ),
            f"groups of {args.num_generations} on processes of {rows} rows": (
                rows % args.num_generations != 0,
                "a group must not straddle processes; set per_device_train_batch_size x "
                "steps_per_generation to a multiple of num_generations",
            ),
            "load_best_model_at_end": (
                args.load_best_model_at_end,
                "a checkpoint is renamed once it is whole, and the best would not be found; choose "
                "it by metrics.jsonl",
            ),
            "save_only_model": (
                args.save_only_model,
                "such a checkpoint cannot be resumed; take its weights from the finished run",
            ),
            "save_on_each_node": (
                args.save_on_each_node,
                "a checkpoint is one folder that all processes write and read; put output_dir on a "
                "disk that all nodes share",
            ),
            "fp16": (
                args.fp16,
                "its scaler overflows on purpose, which would count as steps that are not finite; "
                "set bf16=True or neither",
            ),
            "torch_compile": (
                args.torch_compile,
                "not tested: scoring hooks into the model's forward; set torch_compile=False",
            ),
            "push_to_hub": (
                args.push_to_hub,
                "it would upload a checkpoint while it is being renamed; push the finished one",
            ),
            f"generation_kwargs={args.generation_kwargs}": (
                asked.get("temperature", args.temperature) != args.temperature,
                f"responses would be scored at temperature {args.temperature}; set temperature "
                "instead",
            ),
        }
    )


def check_settings(trainer: Any) -> None:
    """Raise on a setting under which token-level credit would be wrong or is untested."""
    args, tokenizer = trainer.args, trainer._tokenizer
    check_arguments(args, trainer.entropy_penalty)
    refusals = {
        f"padding_side={tokenizer.padding_side!r}": (
            tokenizer.padding_side != "left",
            "image markers would be misplaced; load the processor with padding_side='left'",
        ),
        f"reward functions of one name, {trainer.reward_func_names}": (
            len(set(trainer.reward_func_names)) < len(trainer.reward_func_names),
            "their rewards could not be told apart in the log; give each a name of its own",
        ),
        f"training distributed by {trainer.accelerator.distributed_type.value}": (
            trainer.accelerator.distributed_type.value not in DISTRIBUTED
            and not is_sharded(trainer),
            "not tested; shard with FSDP, fsdp_version 2, or with DeepSpeed, zero_stage 2",
        ),
        **deepspeed.refusals(trainer),
        "tools or environments": (
            bool(trainer.tools) or trainer.environment_factories is not None,
            "not tested; pass none",
        ),
        "dropout": (
            _has_dropout(trainer.model) and not args.disable_dropout,
            "the loss would compare log-probabilities under different masks; set "
            "disable_dropout=True",
        ),
    }
    _refuse(refusals)


def _refuse(refusals: Mapping[str, tuple[bool, str]]) -> None:
    for name, (refused, reason) in refusals.items():
        if refused:
            raise ValueError(f"PerceptionGRPOTrainer refuses {name}: {reason}")


def _has_dropout(model: torch.nn.Module) -> bool:
    return any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in model.modules())
