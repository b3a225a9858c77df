"""The names of TRL and of its Trainer that Sightline touches beside the methods it wraps.

They are private, or may change as such do; `support` holds the methods and checks them.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from trl import GRPOTrainer
from trl.trainer.utils import is_async_callable

from ...algorithms.base import Algorithm, ViewScores, checked_weights
from ...encoding import Encoded

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
    if trainer.accelerator.num_processes == 1 or algorithm.row_local:
        return checked_weights(algorithm, scores, mask)
    weights = checked_weights(
        algorithm, scores_of_all(trainer, scores), of_all(trainer, mask.int()).bool()
    )
    first = trainer.accelerator.process_index * len(mask)
    return weights[first : first + len(mask), : mask.shape[1]]


def of_all(trainer: GRPOTrainer, table: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, one process after another, padded with 0 to the longest."""
    accelerator = trainer.accelerator
    if accelerator.num_processes == 1:
        return table
    gathered: Any = accelerator.gather(accelerator.pad_across_processes(table, dim=1))
    return gathered


def scores_of_all(trainer: GRPOTrainer, scores: Mapping[str, ViewScores]) -> dict[str, ViewScores]:
    """The scores of the rows of all processes."""
    return {
        name: ViewScores(
            of_all(trainer, score.log_ratio),
            None if score.kl is None else of_all(trainer, score.kl),
        )
        for name, score in scores.items()
    }


@contextmanager
def nan_is_no_none(trainer: Any) -> Iterator[None]:
    """Within, a reward function's NaN comes as infinite: TRL would take it for None, no reward."""
    functions = trainer.reward_funcs
    trainer.reward_funcs = [
        function if isinstance(function, torch.nn.Module) else _with_infinite_for_nan(function)
        for function in functions
    ]
    try:
        yield
    finally:
        trainer.reward_funcs = functions


def _with_infinite_for_nan(function: Callable[..., Any]) -> Callable[..., Any]:
    def changed(rewards: Sequence[Any]) -> list[Any]:
        # only NaN differs from itself, be it of Python, NumPy or torch
        return [math.inf if r is not None and r != r else r for r in rewards]

    if is_async_callable(function):

        async def waits(*args: Any, **kwargs: Any) -> list[Any]:
            return changed(await function(*args, **kwargs))

        return waits

    def calls(*args: Any, **kwargs: Any) -> list[Any]:
        return changed(function(*args, **kwargs))

    return calls


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
