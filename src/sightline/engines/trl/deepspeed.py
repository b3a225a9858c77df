"""What DeepSpeed does otherwise than the Trainer, where it shards optimizer and gradients (ZeRO-2).

Its engine takes the optimizer's step inside `accelerator.backward`, before any callback is asked.
It takes none where the norm of the whole gradient is not finite, which is all that is wanted.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

STAGE = 2
# what DeepSpeed pickles into a checkpoint beside tensors and plain values; none does anything
PICKLED = (
    ("deepspeed.runtime.fp16.loss_scaler", "LossScaler"),
    ("deepspeed.runtime.zero.config", "ZeroStageEnum"),
    ("deepspeed.utils.tensor_fragment", "fragment_address"),
)


def is_used(trainer: Any) -> bool:
    """Whether DeepSpeed's engine trains the model."""
    return trainer.accelerator.distributed_type.value == "DEEPSPEED"


def took_no_step(trainer: Any) -> bool:
    """Whether the step at hand was left out, for a gradient that is not finite."""
    return trainer.accelerator.optimizer_step_was_skipped


def refusals(trainer: Any) -> dict[str, tuple[bool, str]]:
    """Per setting of DeepSpeed, whether it is refused, and why."""
    if not is_used(trainer):
        return {}
    config = trainer.accelerator.state.deepspeed_plugin.deepspeed_config
    zero, sampling = config.get("zero_optimization", {}), trainer.dynamic_sampling
    stage, own = zero.get("stage", 0), sorted({"optimizer", "scheduler"} & set(config))
    offloaded = (zero.get("offload_optimizer") or {}).get("device", "none")
    return {
        f"DeepSpeed with ZeRO stage {stage}": (
            stage != STAGE,
            "only stage 2 is tested: stage 3 shards the weights, and scoring could not gather the "
            "head, and below 1 a step that is not finite could not be skipped; set zero_stage: 2, "
            "or shard the weights with FSDP, fsdp_version 2",
        ),
        f"DeepSpeed's offload_optimizer to {offloaded!r}": (
            offloaded not in ("none", None),
            "not tested; set offload_optimizer_device: none",
        ),
        f"DeepSpeed's own {' and '.join(own)}": (
            bool(own),
            "not tested; leave them to the flags of the trainer",
        ),
        "DeepSpeed's bf16.check_grad_overflow=false": (
            not (config.get("bf16") or {}).get("check_grad_overflow", True),
            "a step that is not finite would not be skipped; leave it out",
        ),
        "DeepSpeed's compute_grad_norm=false": (
            not zero.get("compute_grad_norm", True),
            "without bf16 a step that is not finite would not be skipped; leave it out",
        ),
        "dynamic sampling with when_short='skip' and DeepSpeed": (
            sampling is not None and sampling.when_short == "skip",
            "its engine steps before it could be told not to; choose 'keep' or 'error'",
        ),
    }


@contextmanager
def reading_data_only(trainer: Any) -> Iterator[None]:
    """Let nothing in a checkpoint run: DeepSpeed asks torch for all that pickle can do (P6)."""
    if not is_used(trainer):
        yield
        return
    from importlib import import_module  # DeepSpeed is an extra

    known = [getattr(import_module(module), name) for module, name in PICKLED]
    torch.serialization.add_safe_globals(known)
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name) if before is None else os.environ.update({name: before})
