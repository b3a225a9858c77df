"""What stops a run before it does harm: gradients that are not finite, and SIGTERM."""

import signal
import threading
import warnings
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from . import deepspeed


class SkipNonFinite(TrainerCallback):
    """Skips a step whose gradient is not finite, before the optimizer moves.

    Weights and optimizer then stay as they are, bit for bit; the learning rate goes on, but for
    DeepSpeed's, which waits.

    Args:
        trainer: its `strange_rows` are named, and its `skipped_in_a_row` counts, as it is saved
            with a checkpoint.
        patience: steps skipped in a row at which to give up.
    """

    def __init__(self, trainer: Any, patience: int = 3):
        self.trainer, self.patience = trainer, patience

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        # Every process sees the same norm, and so decides the same.
        if self._is_finite(model):
            self.trainer.skipped_in_a_row = 0
            return
        self.trainer.skipped_in_a_row += 1
        count = self.trainer.skipped_in_a_row
        rows = ", ".join(sorted(set(self.trainer.strange_rows))) or "none found on this process"
        self.trainer.strange_rows.clear()
        where = f"step {state.global_step + 1}: the gradient is not finite; rows at fault: {rows}"
        if count >= self.patience:
            raise FloatingPointError(
                f"{where}. Stopped after {count} such steps in a row; checkpoints before "
                "them are whole"
            )
        warnings.warn(f"{where}. The step is skipped", stacklevel=2)
        _drop_gradients(model)

    def _is_finite(self, model: torch.nn.Module) -> bool:
        if deepspeed.is_used(self.trainer):
            return not deepspeed.took_no_step(self.trainer)
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        return bool((norm.full_tensor() if isinstance(norm, DTensor) else norm).isfinite())


class SkipShort(TrainerCallback):
    """Skips a step on batches that dynamic sampling could not fill, where it is told to.

    Args:
        trainer: its `wants_step` says whether another batch has a part in the step.
    """

    def __init__(self, trainer: Any):
        self.trainer = trainer

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        if not self.trainer.wants_step:
            _drop_gradients(model)
        self.trainer.wants_step = False


class StopOnSignal(TrainerCallback):
    """On SIGTERM, saves after the step at hand and ends the training.

    Args:
        trainer: processes agree on the step through it.
    """

    def __init__(self, trainer: Any):
        self.trainer, self.stopped, self._asked = trainer, False, False
        self._before: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if threading.current_thread() is threading.main_thread():  # others cannot handle signals
            self._before = signal.signal(signal.SIGTERM, self._ask)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        accelerator = self.trainer.accelerator
        asked = torch.tensor(float(self._asked), device=accelerator.device)
        if accelerator.num_processes > 1:
            asked = accelerator.reduce(asked, "sum")
        if asked > 0:
            self.stopped = control.should_save = control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _ask(self, *_: Any) -> None:
        self._asked = True


def _drop_gradients(model: torch.nn.Module) -> None:
    for parameter in model.parameters():
        parameter.grad = None  # an optimizer passes over what has none; zeros would move it
