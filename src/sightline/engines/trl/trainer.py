"""The trainer: TRL's rollouts and loss, with advantages that differ from token to token."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl import GRPOConfig

from ...algorithms.base import Algorithm, spread
from ...draws import Draws
from ...encoding import Encoded, encode, pictures_of
from ...records import append_lines, save_images, token_records
from ...scoring import Scored, check_responses, pretrained, score_views
from ...views import PixelView
from ...weight_metrics import weight_metrics
from . import deepspeed, seam, support, vllm
from .callbacks import Clock, MetricsFile
from .dynamic_sampling import DynamicSampling, DynamicSamplingTrainer
from .guards import SkipNonFinite, SkipShort
from .sampling import ban_picture_tokens, warn_of_bias


class PerceptionGRPOTrainer(DynamicSamplingTrainer):
    """GRPO whose advantages differ from token to token; TRL's own loss does the rest.

    With `Algorithm()` it trains bit for bit like `GRPOTrainer`. Beside TRL's own files it writes
    to `args.output_dir`: `metrics.jsonl`, one line per log step, and, if the algorithm compares
    views, `tokens.jsonl`: where a generation falls on a log step, one group of its responses with
    the dependency and weight of every token.

    Args:
        algorithm: the views to compare and the weights to make of them.
        entropy_penalty: coefficient of the mean of ``-log p`` over all response tokens, added to
            the loss; VPPO's code (arXiv:2510.09285) uses 0.06 and calls it a penalty on entropy.
            It is not the entropy: on tokens drawn from the whole policy that is being updated its
            expected gradient is 0, and under top-p or on older samples it pushes the policy
            towards what was sampled (T39). For `loss_type="dapo"`, whose mean it shares.
        dynamic_sampling: whether and how to go on sampling until groups differ in reward.
        train_dataset: as TRL takes it, or a list of rows.
        args, kwargs: TRL's own.
    """

    args: GRPOConfig
    model: Any
    num_generations: int
    _broken_rewards: Tensor  # `(B,)`: whether one was NaN or infinite, in the last rollout batch

    def __init__(
        self,
        *args: Any,
        algorithm: Algorithm,
        entropy_penalty: float = 0.0,
        dynamic_sampling: DynamicSampling | None = None,
        train_dataset: Any = None,
        **kwargs: Any,
    ):
        support.check_methods()
        example = None
        if isinstance(train_dataset, Sequence):
            for row in train_dataset:
                pictures_of(row)  # raises where one cannot be read
            train_dataset = Dataset.from_list(list(train_dataset))
        if isinstance(train_dataset, Dataset) and algorithm.views():
            example = self._example(train_dataset)
        super().__init__(*args, train_dataset=train_dataset, **kwargs)
        self.entropy_penalty, self.dynamic_sampling = entropy_penalty, dynamic_sampling
        self.check_dynamic_sampling()
        support.check_settings(self)
        self.algorithm = algorithm
        self.clock = Clock(self)
        banned = ban_picture_tokens(self)
        warn_of_bias(self)
        if self.args.use_vllm:
            vllm.attach(self, banned)
        self.aligned = not self.args.use_vllm  # whether vLLM was seen to agree with the trainer
        self._rows: list[dict] | None = None  # of the generation whose old log-probs TRL awaits
        self._scored: Scored | None = None
        self._log_probs: Tensor | None = None  # of the loss in the making, with gradient
        self.run_folder = Path(str(self.args.output_dir))
        self.wants_step = False  # whether a micro-batch since the last step is not to be skipped
        self.strange_rows: list[str] = []  # whose loss was not finite, until a step is skipped
        self.args.logging_nan_inf_filter = False  # it would log the mean of the steps before
        self.add_callback(self.clock)
        self.add_callback(MetricsFile(self.run_folder))
        self.add_callback(SkipNonFinite(self))
        self.add_callback(SkipShort(self))
        seam.allow_rows_without_image(self)
        if example:
            self._check_prompt(example)

    def _example(self, rows: Dataset) -> dict | None:
        """The row by which prompts are checked before training."""
        return first_with_image(rows)

    def settings(self) -> dict[str, Any]:
        sampling = self.dynamic_sampling
        return {
            **super().settings(),
            "algorithm": {"name": type(self.algorithm).__name__, **asdict(self.algorithm)},
            "entropy_penalty": self.entropy_penalty,
            "dynamic_sampling": sampling and asdict(sampling),
        }

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        with self.clock.times("generation"):
            return seam.empty_for_none(super()._generate(*args, **kwargs))

    def _generate_and_score_completions(self, inputs: list[dict]) -> dict[str, Any]:
        if not self.model.training:
            return super()._generate_and_score_completions(inputs)
        with self._filled(inputs) as (rows, skipped):
            self._check_images(rows[:: self.num_generations])  # TRL repeats each for its group
            if self.algorithm.views():
                output = self._score_rollout(rows)
            else:  # plain GRPO
                output = self._roll_out(rows)
        output["skip"] = [skipped] * len(rows)
        # TRL would make 0 of the advantages of its group
        output["advantages"][self._broken_rewards] = float("nan")
        output["row_ids"] = [str(row.get("id", index)) for index, row in enumerate(rows)]
        return output

    def _roll_out(self, rows: list[dict]) -> dict[str, Any]:
        """TRL's rollout batch, and vLLM's part in it checked until it is known to be right."""
        output = super()._generate_and_score_completions(rows)
        self.aligned = self.aligned or vllm.check_alignment(self, output)
        return output

    def _calculate_rewards(self, inputs: list[dict], *args: Any, **kwargs: Any) -> Tensor:
        with self.clock.times("rewards"), seam.nan_is_no_none(self):
            rewards = super()._calculate_rewards(inputs, *args, **kwargs)
        first = self.accelerator.process_index * len(inputs)
        mine = rewards[first : first + len(inputs)]
        models = [isinstance(function, torch.nn.Module) for function in self.reward_funcs]
        # a model has no None to give
        broken = mine.isinf() | (mine.isnan() & torch.tensor(models, device=mine.device))
        self._broken_rewards = broken.any(1)
        return rewards

    def _score_rollout(self, inputs: list[dict]) -> dict[str, Any]:
        """TRL's rollout batch with its advantages spread over tokens."""
        hands_over = seam.needs_old_log_probs(self) and seam.has_float32_head(self)
        self._rows, self._scored = inputs if hands_over else None, None
        try:
            output = self._roll_out(inputs)
        finally:
            self._rows = None
        responses = seam.read(output)
        # a response without advantage teaches nothing, whatever its weights (T31)
        skips = self.algorithm.row_local and not seam.is_sharded(self)
        wanted = output["advantages"] != 0 if skips else None
        scored = self._scored or self._score(inputs, responses, wanted)
        passes = _passes(responses, None if self._scored else wanted, len(scored.views))
        seen = torch.tensor([count > 0 for count in responses.num_images], device=self.model.device)
        seen &= responses.mask.any(1)  # empty where TRL masks what was truncated (T56)
        seen = seen if wanted is None else seen & wanted
        with self.clock.times("scoring"):
            weights = self._weights(responses, scored)
        had_views = responses.num_images if self._scored else seen.tolist()
        # TRL's own pass over the batch is spared where scoring hands over old log-probs
        extra = passes - (len(inputs) if self._scored else 0)
        self._log_scoring(scored, weights, responses.mask & seen[:, None], had_views, extra)
        if self._logs_now():
            self._record(inputs, responses, scored, weights, output["advantages"], seen)
        # a score that is not finite has made no weight: it fails the loss, and the step is skipped
        tables = (table for view in scored.views.values() for table in (view.log_ratio, view.kl))
        broken = seam.not_finite(responses.mask, *tables)
        advantages = output["advantages"].masked_fill(broken, float("nan"))
        output["advantages"] = spread(advantages, weights)
        return output

    def _log_scoring(
        self, scored: Scored, weights: Tensor, mask: Tensor, had_views: list, extra: int
    ) -> None:
        """Log what scoring found, over the rows of all processes; raise if no image had a part.

        Args:
            mask: True on the tokens that were scored under the views.
            had_views: whether each row was, or how many images it has.
            extra: passes over a response that plain GRPO would not have made.
        """
        scores, everything = seam.scores_of_all(self, scored.views), seam.of_all(self, mask.int())
        dead = [name for name, score in scores.items() if not score.log_ratio.any()]
        if everything.any() and dead:
            raise ValueError(
                f"dependency is 0 on every token at step {self.state.global_step} under the views "
                f"{dead}: the image does not reach the model's log-probabilities"
            )
        metrics = weight_metrics(seam.of_all(self, weights), scores, everything.bool())
        counts = torch.tensor([[sum(map(bool, had_views)), extra]], device=mask.device)
        rows, passes = seam.of_all(self, counts).sum(0).tolist()
        metrics["scoring/rows"] = float(rows)
        metrics["scoring/extra_forward_share"] = passes / (len(everything) * self.num_iterations)
        if self._logs_now():
            floors = seam.of_all(self, torch.tensor([[scored.noise_floor]], device=mask.device))
            # NaN where a process had no row to score again
            measured = floors[floors.isfinite()]
            metrics["dependency/noise_floor"] = max(measured.tolist(), default=float("nan"))
        seam.log(self, metrics)

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Where TRL asks for old log-probs, the sweep that scores the views answers it."""
        if self._rows is None:
            found = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, *args, **kwargs
            )
            self._log_probs = found[0] if found[0].requires_grad else None
            return found
        rows, self._rows = self._rows, None  # they are the first it asks for in a generation
        responses = seam.read_call(input_ids, attention_mask, *args, **kwargs)
        self._scored = self._score(rows, responses, None)
        return self._scored.log_probs, None, None

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        loss = super()._compute_loss(model, inputs)
        if not self.model.training:  # an evaluation takes no step
            return loss
        if inputs["skip"][0]:  # no gradient, and no step if all are such
            return loss * 0
        self.wants_step = True
        log_probs, self._log_probs = self._log_probs, None
        if log_probs is not None and self.args.loss_type in seam.CLIPPING_LOSSES:
            seam.log(self, {"clip_ratio/credited": seam.clipped_share(self, inputs, log_probs)})
        if log_probs is not None and self.entropy_penalty:
            loss = loss + self.entropy_penalty * seam.dapo_mean(self, -log_probs, inputs)
        if loss.isfinite():
            return loss
        self.strange_rows += seam.strange_rows(inputs, log_probs)
        # its gradient may be finite, as that of the penalty is where a log-prob is infinite
        return loss * float("nan")

    def _weights(self, responses: Encoded, scored: Scored) -> Tensor:
        """The algorithm's weights, one per token."""
        return seam.whole_batch_weights(self, self.algorithm, scored.views, responses.mask)

    def _check_prompt(self, row: dict) -> None:
        """Raise if the picture of `row` does not find its place in the prompt (T4)."""
        model = self.accelerator.unwrap_model(self.model)
        check_responses(pretrained(model), encode(self.processing_class, [row]))

    def _check_images(self, rows: list[dict]) -> None:
        without = [row for row in rows if not pictures_of(row)]
        if len(without) == len(rows) and self.algorithm.views():
            warnings.warn(
                f"step {self.state.global_step + 1}: no row of the batch has an image, so that "
                "every token weighs 1",
                stacklevel=2,
            )
        if without and self.accelerator.num_processes > 1:
            if seam.is_sharded(self) or deepspeed.is_used(self):
                raise ValueError(
                    f"row {without[0].get('id', '?')!r} has no image, and processes that share "
                    "what is sharded must all run the vision tower: train without FSDP and "
                    "DeepSpeed, or on rows with images"
                )
            if not self.args.ddp_find_unused_parameters:
                raise ValueError(
                    f"row {without[0].get('id', '?')!r} has no image, and a process without images "
                    "would leave the vision tower out: set ddp_find_unused_parameters=True"
                )

    def _score(self, rows: list[dict], responses: Encoded, wanted: Tensor | None) -> Scored:
        views = self.algorithm.views()
        if any(isinstance(view, PixelView) and view.grid == "source" for view in views.values()):
            responses = replace(responses, pictures=[pictures_of(row) for row in rows])
        with self.clock.times("scoring"):
            return score_views(
                self.model,
                responses,
                views,
                temperature=self.args.temperature,
                exact_kl=self.algorithm.needs_exact_kl,
                processor=self.processing_class,
                draws=Draws.of(rows, int(self.args.seed), self.state.global_step),
                wanted=wanted,
                chunk_rows=self.args.per_device_train_batch_size,
                noise_rows=2 if self._logs_now() else 0,
            )

    def _logs_now(self) -> bool:
        return self.state.global_step % max(int(self.state.logging_steps), 1) == 0

    def _record(
        self,
        rows: list[dict],
        responses: Encoded,
        scored: Scored,
        weights: Tensor,
        advantages: Tensor,
        seen: Tensor,
    ) -> None:
        """Append the responses of the first group that were scored to `tokens.jsonl`."""
        if not seen.any() or not self.accelerator.is_main_process:
            return
        size = self.num_generations
        first = int(seen.nonzero()[0]) // size * size
        group = [row for row in range(first, first + size) if seen[row]]
        rewards = seam.rewards(self, responses.mask.shape[0])
        rows = [{"id": f"step-{self.state.global_step}", **rows[i]} for i in group]
        records = token_records(
            self._tokenizer,
            rows,
            responses.select(group),
            {name: s.select(group) for name, s in scored.views.items()},
            weights[group],
            images=[save_images(self.run_folder, row) for row in rows],
            split=["train"] * len(group),
            step=[self.state.global_step] * len(group),
            advantage=advantages[group].tolist(),
            reward=[rewards[row] for row in group],
        )
        append_lines(self.run_folder / "tokens.jsonl", records)


def _passes(responses: Encoded, wanted: Tensor | None, views: int) -> int:
    """How often scoring runs a response through the model: under views if there is an image."""
    read = [True] * len(responses.num_images) if wanted is None else wanted.tolist()
    images = [count for count, asked in zip(responses.num_images, read, strict=True) if asked]
    return sum(1 + views * (count > 0) for count in images)


def first_with_image(rows: Dataset) -> dict:
    """The first row with an image; raises if there is none."""
    # images are decoded up to the first
    found: Any = next((row for row in rows if pictures_of(row)), None)  # pyright: ignore[reportArgumentType]
    if found is None:
        raise ValueError(
            "no row of the training data has an image, in a column images or image: every token "
            "would weigh 1, as in plain GRPO"
        )
    return found
