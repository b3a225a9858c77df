"""A run, as far as its cost depends on it: how many rows, how long, how often."""

from dataclasses import dataclass
from math import ceil
from typing import Any

from .model_shape import ModelShape

TEXT_TOKENS = 150  # of a prompt: chat markup, a question, the instruction; assumed
WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Job:
    """Counts are of the longest rows there can be.

    Args:
        shape: of the model.
        args: TRL's `GRPOConfig`.
        processes, sharding, lora_rank: as in `RunArguments`.
        questions: rows of training data.
        pixels: the least and the most that an image is resized to.
    """

    shape: ModelShape
    args: Any
    processes: int
    sharding: str
    lora_rank: int
    questions: int
    pixels: tuple[int, int]

    @property
    def image_tokens(self) -> tuple[int, int]:
        """Of a smallest and of a largest image; Qwen2-VL (arXiv:2409.12191), section 2.1."""
        least, most = self.pixels
        return least // self.shape.cell**2, most // self.shape.cell**2

    @property
    def prompt_tokens(self) -> int:
        return TEXT_TOKENS + self.image_tokens[1]

    @property
    def row_tokens(self) -> int:
        """Prompt and response."""
        return self.prompt_tokens + self.args.max_completion_length

    @property
    def local_responses(self) -> int:
        """Of one process in one rollout batch."""
        return self.args.per_device_train_batch_size * self.args.steps_per_generation

    @property
    def responses(self) -> int:
        """Of all processes in one rollout batch."""
        return self.local_responses * self.processes

    @property
    def prompts(self) -> int:
        """Of one rollout batch."""
        return self.responses // self.args.num_generations

    @property
    def period(self) -> int:
        """Micro-steps for which one rollout batch serves."""
        return self.args.steps_per_generation * self.args.num_iterations

    @property
    def steps(self) -> int:
        """Optimizer steps; an epoch drops the last prompts that fill no batch, as TRL does."""
        if self.args.max_steps > 0:
            return self.args.max_steps
        batches = self.questions // self.prompts
        micro_steps = batches * self.period
        per_epoch = ceil(micro_steps / self.args.gradient_accumulation_steps)
        return ceil(self.args.num_train_epochs * per_epoch)

    @property
    def rollouts(self) -> int:
        """Rollout batches; with dynamic sampling each is generated more than once."""
        return ceil(self.steps * self.args.gradient_accumulation_steps / self.period)

    @property
    def loaded_width(self) -> int:
        """Bytes per weight as loaded; TRL's default is float32."""
        dtype = str((self.args.model_init_kwargs or {}).get("dtype", "float32"))
        dtype = self.shape.dtype if dtype == "auto" else dtype.removeprefix("torch.")
        if dtype not in WIDTHS:
            raise ValueError(f"dtype must be one of {', '.join(WIDTHS)} or auto, got {dtype!r}")
        return WIDTHS[dtype]

    @property
    def half(self) -> bool:
        """Whether arithmetic is in 16 bits."""
        return bool(self.args.bf16 or self.args.fp16) or self.loaded_width == 2

    @property
    def asks_for_old_log_probs(self) -> bool:
        """Whether TRL scores what it generated before it trains on it (T49)."""
        corrects = self.args.use_vllm and self.args.vllm_importance_sampling_correction
        return self.args.gradient_accumulation_steps % self.period != 0 or corrects

    @property
    def hands_over(self) -> bool:
        """Whether the clean pass of scoring is also TRL's for old log-probs."""
        return self.asks_for_old_log_probs and not self.half
