"""Every private name of TRL and of its Trainer that Sightline touches, and no other file does.

What is checked here is what the contract tests cover; anything else is refused with a sentence.
Nothing turns into plain GRPO in silence.
"""

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
import transformers
import trl
from PIL import Image
from trl import GRPOTrainer
from trl.generation.vllm_generation import VLLMGeneration

from ...algorithms.base import Algorithm, ViewScores, checked_weights
from ...encoding import Encoded

TESTED = ("1.16.0",)
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
# What TRL calls a model with beside the text: in the families that can be scored, and in others.
PICTURES = (
    "pixel_values",
    "image_grid_thw",
    "pixel_attention_mask",
    "image_sizes",
    "mm_token_type_ids",
)
OTHER_PICTURES = ("spatial_shapes", "num_tiles", "token_type_ids", "image_position_ids")


# those that clip the ratio at 1 - epsilon and 1 + epsilon_high
CLIPPING_LOSSES = ("grpo", "dapo", "bnpo", "dr_grpo")


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
            trainer.accelerator.distributed_type.value not in ("NO", "MULTI_CPU", "MULTI_GPU")
            and not is_sharded(trainer),
            "a step that is not finite could not be skipped, and scoring could not gather the "
            "head; shard with FSDP, fsdp_version 2",
        ),
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


def allow_rows_without_image(trainer: Any) -> None:
    """Keep slices of text rows from the vision tower, which cannot take no patches (T48)."""

    def drop_empty(_module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        pixels = kwargs.get("pixel_values")
        if pixels is not None and not len(pixels):
            images = set(PICTURES) - {"mm_token_type_ids"}
            kwargs = {name: value for name, value in kwargs.items() if name not in images}
        return args, kwargs

    trainer.model.register_forward_pre_hook(drop_empty, with_kwargs=True)


def empty_for_none(generated: tuple[Any, ...]) -> tuple[Any, ...]:
    """What TRL generated, with [] for the images of a text row, where its processor fails on None.

    The images are whichever member is a list with lists of pictures: their place has changed.
    """
    return tuple(
        [[] if images is None else images for images in member]
        if isinstance(member, list) and any(_holds_pictures(images) for images in member)
        else member
        for member in generated
    )


def _holds_pictures(images: Any) -> bool:
    return isinstance(images, list) and bool(images) and isinstance(images[0], Image.Image)


def not_finite(mask: torch.Tensor, *tables: torch.Tensor | None) -> torch.Tensor:
    """`(B,)`: rows with a value of any table, on a real token, that is NaN or infinite."""
    rows = torch.zeros(len(mask), dtype=torch.bool, device=mask.device)
    for table in tables:
        if table is not None:
            rows |= (~table.isfinite() & mask).any(1)
    return rows


def clipped_share(trainer: Any, inputs: Mapping[str, Any], log_probs: torch.Tensor) -> float:
    """Of the tokens with credit, on all processes, the share whose ratio the loss clips.

    TRL's own shares count tokens of weight 0 too, which are never clipped: they fall with the share
    of tokens that a method keeps (T52).
    """
    credit, old = _per_token(inputs), inputs.get("old_per_token_logps")
    ratio = torch.ones_like(log_probs) if old is None else (log_probs.detach() - old).exp()
    has_credit = (credit != 0) & inputs["completion_mask"].bool()
    above = (ratio > 1 + trainer.epsilon_high) & (credit > 0)
    below = (ratio < 1 - trainer.epsilon_low) & (credit < 0)
    counts = torch.stack([((above | below) & has_credit).sum(), has_credit.sum()])
    clipped, credited = trainer.accelerator.reduce(counts, "sum").tolist()
    return clipped / max(credited, 1)


def _per_token(inputs: Mapping[str, Any]) -> torch.Tensor:
    """`(B, T)`: the advantages, which are `(B,)` in plain GRPO."""
    advantages, mask = inputs["advantages"], inputs["completion_mask"]
    return advantages if advantages.ndim == 2 else advantages[:, None].expand(mask.shape)


def strange_rows(inputs: Mapping[str, Any], log_probs: torch.Tensor | None) -> list[str]:
    """The ids of the rows that make a loss not finite."""
    mask = inputs["completion_mask"].bool()
    found = not_finite(mask, _per_token(inputs), log_probs).tolist()
    return [name for name, strange in zip(inputs["row_ids"], found, strict=True) if strange]


def read(output: Mapping[str, Any]) -> Encoded:
    """TRL's rollout batch in our names; rows keep the order of the inputs."""
    mask = output["completion_mask"].bool()
    inputs = {
        "input_ids": torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1),
        "attention_mask": torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1),
        **_pictures(output),
    }
    num_images = output.get("num_images") or [0] * len(mask)
    return Encoded(inputs, output["completion_ids"], mask, list(num_images))


def is_sharded(trainer: Any) -> bool:
    """Whether FSDP 2 shards the model, so that a forward pass is one of all processes together."""
    return trainer.accelerator.is_fsdp2


def period(trainer: Any) -> int:
    """Micro-steps for which one rollout batch serves."""
    return trainer.args.steps_per_generation * trainer.num_iterations


def needs_old_log_probs(trainer: Any) -> bool:
    """Whether TRL will ask for the log-probs of what it has just generated (T49)."""
    corrects = trainer.args.use_vllm and trainer.args.vllm_importance_sampling_correction
    return corrects or trainer.args.gradient_accumulation_steps % period(trainer) != 0


def has_float32_head(trainer: Any) -> bool:
    """Whether TRL's loss takes log-probs from a float32 head, as scoring does.

    Where it does not, old log-probs from scoring would differ from the loss's own before anything
    was learned, by 0.035 nats on the tiny model in bf16.
    """
    args = trainer.args
    return not (args.bf16 or args.fp16) and trainer.model.dtype == torch.float32


def read_call(
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    logits_to_keep: int,
    num_images: list[int] | None = None,
    **kwargs: Any,
) -> Encoded:
    """The rollout batch in our names, from TRL's call for its log-probs."""
    return Encoded(
        {"input_ids": input_ids, "attention_mask": attention_mask, **_pictures(kwargs)},
        input_ids[:, -logits_to_keep:],
        attention_mask[:, -logits_to_keep:].bool(),
        list(num_images or [0] * len(input_ids)),
    )


def _pictures(found: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """What TRL calls the model with beside the text; scoring must leave out none of it."""
    known = {name: found[name] for name in PICTURES if found.get(name) is not None}
    if strange := [name for name in OTHER_PICTURES if found.get(name) is not None]:
        raise ValueError(
            f"scoring does not know the model's inputs {strange}: train another family"
        )
    return known


def dapo_mean(trainer: Any, values: torch.Tensor, inputs: Mapping[str, Any]) -> torch.Tensor:
    """The share of these tokens in a mean over one optimizer step, as TRL's DAPO loss takes it."""
    window = trainer.current_gradient_accumulation_steps / trainer.args.steps_per_generation
    tokens = inputs["num_items_in_batch"].clamp(min=1.0) / trainer.accelerator.num_processes
    return values.masked_fill(~inputs["completion_mask"].bool(), 0).sum() / (tokens * window)


def whole_batch_weights(
    trainer: GRPOTrainer,
    algorithm: Algorithm,
    scores: Mapping[str, ViewScores],
    mask: torch.Tensor,
) -> torch.Tensor:
    """The weights of this process's rows, among those of all processes (T30)."""
    accelerator = trainer.accelerator
    if accelerator.num_processes == 1 or algorithm.row_local:
        return checked_weights(algorithm, scores, mask)

    def everywhere(table: torch.Tensor) -> torch.Tensor:
        gathered: Any = accelerator.gather(accelerator.pad_across_processes(table, dim=1))
        return gathered

    gathered = {
        name: ViewScores(
            everywhere(score.log_ratio), None if score.kl is None else everywhere(score.kl)
        )
        for name, score in scores.items()
    }
    weights = checked_weights(algorithm, gathered, everywhere(mask.int()).bool())
    first = accelerator.process_index * len(mask)
    return weights[first : first + len(mask), : mask.shape[1]]


def rewards(trainer: GRPOTrainer, count: int) -> list[float]:
    """The weighted sum of rewards of this process's last `count` responses; None adds nothing."""
    last = slice(
        -count * (trainer.accelerator.num_processes - trainer.accelerator.process_index), None
    )
    columns = [list(values)[last][:count] for values in trainer._logs["rewards"].values()]
    weights = trainer.reward_weights.tolist()
    return [
        sum(w * value for w, value in zip(weights, row, strict=True) if not math.isnan(value))
        for row in zip(*columns, strict=True)
    ]


def log(trainer: GRPOTrainer, metrics: Mapping[str, float]) -> None:
    """Hand metrics to TRL's own log, which averages them over a logging window."""
    for name, value in metrics.items():
        trainer._metrics["train"][name].append(value)


def _has_dropout(model: torch.nn.Module) -> bool:
    return any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in model.modules())
