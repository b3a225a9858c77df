"""Training that continues as if it had never stopped, bit for bit on a CPU.

TRL and its Trainer resume exactly only between rollout batches, write straight into the folder
they will trust, and do not load Qwen2.5-VL's weights at all (T59, T60). What is private of theirs
and needed for that is here and, for all else, in `seam`.
"""

import json
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerState
from transformers.trainer_utils import TrainOutput
from trl import GRPOTrainer

from ... import checkpoints
from ...records import keep_lines, write_json
from . import deepspeed, shards
from .seam import is_sharded, period

SETTINGS = "settings.json"


@dataclass(frozen=True)
class Whole:
    """A checkpoint whose files `find_whole` found to be as they were written."""

    folder: Path


def find_whole(run: Path, asked: Path | str | Literal[True]) -> Whole:
    """The checkpoint `asked` for, or with True the newest of `run` that is whole.

    Its files are read by the main process alone, once, and the others are told.

    Raises:
        ValueError: it is damaged, or there is none of that name.
        FileNotFoundError: none of the run is whole.
    """
    told: list[Any] = [None]
    if PartialState().is_main_process:
        try:
            told = [checkpoints.newest_whole(run) if asked is True else _undamaged(Path(asked))]
        except (OSError, ValueError) as error:  # raised by all, who would wait for one another
            told = [error]
    (found,) = broadcast_object_list(told)
    if isinstance(found, Exception):
        raise found
    return Whole(found)


def _undamaged(chosen: Path) -> Path:
    if wrong := checkpoints.damage(chosen):
        others = ", ".join(f.name for f in checkpoints.all_of(chosen.parent)) or "none"
        raise ValueError(f"cannot resume: {wrong}; in {chosen.parent} there are: {others}")
    return chosen


class ResumableGRPOTrainer(GRPOTrainer):
    """GRPO whose checkpoints are whole or do not count, and resume exactly.

    A checkpoint may fall anywhere, also between two uses of one rollout batch. One inside a batch
    resumes on the same number of processes only.
    """

    args: Any
    run_folder: Path
    _draft: Path | None = None  # where a checkpoint is being written
    _epochs_done = 0  # before the checkpoint that is resumed
    _refills = 0  # prompts that dynamic sampling has drawn beyond the order of the data
    skipped_in_a_row = 0  # steps, up to the last, whose gradient was not finite

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train, from the start or from a checkpoint.

        Args:
            resume_from_checkpoint: a checkpoint, or True for the newest of the run that is whole,
                or what `find_whole` found. A damaged one is never loaded, nor one of other
                settings; from the last of a finished run nothing is trained.
        """
        if not resume_from_checkpoint:
            if self.accelerator.is_main_process:  # else an older run's could be the newest
                checkpoints.set_aside_after(self.run_folder, 0)
            return super().train(None, *args, **kwargs)
        found = resume_from_checkpoint
        chosen = (found if isinstance(found, Whole) else find_whole(self.run_folder, found)).folder
        begun = json.loads((chosen / SETTINGS).read_text(encoding="utf-8"))
        checkpoints.refuse_changes(chosen, begun, self.settings())
        shards.check(chosen)
        state = TrainerState.load_from_json(str(chosen / "trainer_state.json"))
        if state.global_step >= (
            self.args.max_steps if self.args.max_steps > 0 else state.max_steps
        ):
            self._load_from_checkpoint(str(chosen))  # the Trainer would go on for one step more
            self.state = state
            return TrainOutput(state.global_step, 0.0, {})
        self._epochs_done = int(state.epoch or 0)
        restore = _Restore(self, chosen)
        self.add_callback(restore)
        try:
            with deepspeed.reading_data_only(self):
                return super().train(str(chosen), *args, **kwargs)
        except (pickle.UnpicklingError, SafetensorError) as error:
            raise ValueError(
                f"cannot resume: a file of {chosen} is not the data it should be, and was not "
                f"loaded: {error}"
            ) from error
        finally:
            self.remove_callback(restore)

    def settings(self) -> dict[str, Any]:
        """What decides the numbers of a run, for its checkpoints to be compared with."""
        return {"settings": self.args.to_sanitized_dict()}

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(dataset)
        # Each epoch draws its order from one generator, which the Trainer starts anew.
        for _ in range(self._epochs_done):
            next(iter(sampler), None)
        return sampler

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._draft or super()._get_output_dir(trial))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        main, name = self.accelerator.is_main_process, f"checkpoint-{self.state.global_step}"
        draft = self.run_folder / "checkpoint.draft"
        if main:
            shutil.rmtree(draft, ignore_errors=True)  # of a run that was killed
        self.accelerator.wait_for_everyone()
        self._draft = draft
        try:
            super()._save_checkpoint(model, trial)
            _save_rollout(self, draft / name)
            if main:
                write_json(draft / name / SETTINGS, self.settings())
            self.accelerator.wait_for_everyone()
            if main:
                checkpoints.publish(draft / name, self.run_folder / name)
                checkpoints.prune(self.run_folder, self.args.save_total_limit)
        except Exception as error:  # tokenizers raises nothing narrower where the disk is full
            free = shutil.disk_usage(self.run_folder).free / 2**20
            raise OSError(
                f"{name} could not be saved in {self.run_folder}, with {free:.0f} MiB free there: "
                f"{error}. Checkpoints saved before are as they were: make room and resume"
            ) from error
        finally:
            self._draft = None
            if main:
                shutil.rmtree(draft, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, whole also where FSDP saves checkpoints in shards."""
        plugin = self.accelerator.state.fsdp_plugin if is_sharded(self) else None
        if plugin is None or _internal_call:
            super().save_model(output_dir, _internal_call)
            return
        kind = plugin.state_dict_type
        plugin.set_state_dict_type("FULL_STATE_DICT")
        try:
            super().save_model(output_dir)
        finally:
            plugin.set_state_dict_type(kind)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        adapter = (Path(resume_from_checkpoint) / "adapter_config.json").exists()
        if adapter or is_sharded(self):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            _load_weights(self, Path(resume_from_checkpoint))


class _Restore(TrainerCallback):
    """Puts back what the Trainer resets when it begins."""

    def __init__(self, trainer: ResumableGRPOTrainer, checkpoint: Path):
        self.trainer, self.checkpoint = trainer, checkpoint

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        _restore_rollout(self.trainer, self.checkpoint)
        if state.is_world_process_zero:  # what came after the checkpoint will come again
            done, run = state.global_step, self.trainer.run_folder
            checkpoints.set_aside_after(run, done)
            keep_lines(run / "metrics.jsonl", lambda line: line["step"] <= done)
            # sampled after that many steps
            keep_lines(run / "tokens.jsonl", lambda line: line["step"] < done)


def _save_rollout(trainer: Any, folder: Path) -> None:
    """Save what the Trainer forgets of this process: where it stands in a rollout batch (T60).

    That is the count of micro-steps, the batch itself unless all of it has been used, and what has
    been gathered for the next line of the log.
    """
    inside = trainer._step % period(trainer) != 0
    tensors, rest = {}, {}
    for index, part in enumerate(trainer._buffered_inputs if inside else []):
        for name, value in part.items():
            if torch.is_tensor(value):
                # a copy of its own, as slices of one tensor cannot be saved twice; off the GPU
                copied = value.detach().to("cpu", copy=True)
                tensors[f"{index}.{name}"] = copied.contiguous()
            else:
                rest[f"{index}.{name}"] = value
    rank = trainer.accelerator.process_index
    save_file(tensors, folder / f"rollout-{rank}.safetensors")
    content = {
        "processes": trainer.accelerator.num_processes,
        "micro_step": trainer._step,
        "refills": trainer._refills,
        "skipped_in_a_row": trainer.skipped_in_a_row,
        "rest": rest,
        "metrics": trainer._metrics["train"],
        "loss": trainer._tr_loss.item(),
        "last_logged": trainer._globalstep_last_logged,
    }
    write_json(folder / f"rollout-{rank}.json", content)


def _restore_rollout(trainer: Any, folder: Path) -> None:
    """Undo `_save_rollout`, once the Trainer has begun to train."""
    rank = trainer.accelerator.process_index
    saved = json.loads((folder / "rollout-0.json").read_text(encoding="utf-8"))
    tensors = {}
    if saved["processes"] == trainer.accelerator.num_processes:
        saved = json.loads((folder / f"rollout-{rank}.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / f"rollout-{rank}.safetensors", trainer.accelerator.device.type)
    elif saved["micro_step"] % period(trainer):
        raise ValueError(
            f"{folder} was saved in the middle of a rollout batch by {saved['processes']} "
            f"process(es): resume on as many, not on {trainer.accelerator.num_processes}"
        )
    parts: dict[int, dict[str, Any]] = {}
    for key, value in (*tensors.items(), *saved["rest"].items()):
        index, name = key.split(".", 1)
        parts.setdefault(int(index), {})[name] = value
    trainer._step, trainer._refills = saved["micro_step"], saved["refills"]
    trainer.skipped_in_a_row = saved["skipped_in_a_row"]
    trainer._buffered_inputs = [parts[index] for index in sorted(parts)] or None
    trainer._metrics["train"].update(saved["metrics"])
    trainer._tr_loss += saved["loss"]
    trainer._globalstep_last_logged = saved["last_logged"]


def _load_weights(trainer: Any, folder: Path) -> None:
    """Load the weights of a checkpoint, every one of them or raise.

    The Trainer does not: Qwen2.5-VL is saved under other names than its parameters have, and with
    `strict=False` all but the head would keep what they had (T59).
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    saved = type(model).from_pretrained(folder, dtype=model.dtype)
    model.load_state_dict(saved.state_dict())
