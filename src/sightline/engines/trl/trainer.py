"""The trainer: TRL's rollouts and loss, with advantages that differ from token to token."""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from datasets import Dataset
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

from ...algorithms.base import Algorithm, checked_weights, token_advantages
from ...encoding import Encoded, pictures_of
from ...records import append_lines, save_images, token_records
from ...scoring import Scored, score_views
from ...weight_metrics import weight_metrics
from . import seam
from .callbacks import MetricsFile


class PerceptionGRPOTrainer(GRPOTrainer):
    """GRPO whose advantages differ from token to token; TRL's own loss does the rest.

    With `Algorithm()` it trains bit for bit like `GRPOTrainer`. Beside TRL's own files it writes
    to `args.output_dir`: `metrics.jsonl`, one line per log step, and, if the algorithm compares
    views, `tokens.jsonl`: where a generation falls on a log step, one group of its responses with
    the dependency and weight of every token.

    Args:
        algorithm: the views to compare and the weights to make of them.
        train_dataset: as TRL takes it, or a list of rows.
        args, kwargs: TRL's own.
    """

    args: GRPOConfig
    model: Any
    num_generations: int

    def __init__(self, *args: Any, algorithm: Algorithm, train_dataset: Any = None, **kwargs: Any):
        seam.check_methods()
        if isinstance(train_dataset, Sequence):
            check_rows(train_dataset)
            train_dataset = Dataset.from_list(list(train_dataset))
        super().__init__(*args, train_dataset=train_dataset, **kwargs)
        seam.check_settings(self)
        seam.suppress_image_tokens(self)
        self.algorithm = algorithm
        self.scoring_seconds = 0.0
        self.run_folder = Path(str(self.args.output_dir))
        self.add_callback(MetricsFile(self.run_folder))

    def _generate_and_score_completions(self, inputs: list[dict]) -> dict[str, Any]:
        views = self.algorithm.views()
        if not views or not self.model.training:  # plain GRPO, or evaluation
            return super()._generate_and_score_completions(inputs)
        check_rows(inputs[:: self.num_generations])  # TRL repeats each row for its group
        output = super()._generate_and_score_completions(inputs)
        started = perf_counter()
        responses = seam.read(output)
        scored = score_views(
            self.model,
            responses,
            views,
            temperature=self.args.temperature,
            exact_kl=self.algorithm.needs_exact_kl,
            chunk_rows=self.args.per_device_train_batch_size,
        )
        if any(responses.num_images) and not any(s.log_ratio.any() for s in scored.views.values()):
            raise ValueError(
                f"dependency is 0 on every token at step {self.state.global_step} under the views "
                f"{sorted(views)}: the image does not reach the model's log-probabilities"
            )
        weights = checked_weights(self.algorithm, scored.views, responses.mask)
        seconds = perf_counter() - started
        self.scoring_seconds += seconds
        metrics = weight_metrics(weights, scored.views, responses.mask)
        seam.log(self, metrics | {"seconds/scoring": seconds})
        if self.state.global_step % max(int(self.state.logging_steps), 1) == 0:
            self._record(inputs, responses, scored, weights, output["advantages"])
        output["advantages"] = token_advantages(
            self.algorithm, output["advantages"], scored.views, responses.mask
        )
        return output

    def _record(
        self,
        rows: list[dict],
        responses: Encoded,
        scored: Scored,
        weights: Tensor,
        advantages: Tensor,
    ) -> None:
        """Append the first group of responses to `tokens.jsonl`."""
        group = range(self.num_generations)
        rows = [{"id": f"step-{self.state.global_step}", **rows[i]} for i in group]
        records = token_records(
            self._tokenizer,
            rows,
            responses.select(group),
            {name: s.select(slice(len(group))) for name, s in scored.views.items()},
            weights[: len(group)],
            images=[save_images(self.run_folder, row) for row in rows],
            split=["train"] * len(group),
            step=[self.state.global_step] * len(group),
            advantage=advantages[: len(group)].tolist(),
            reward=seam.rewards(self, responses.mask.shape[0])[: len(group)],
        )
        append_lines(self.run_folder / "tokens.jsonl", records)


def check_rows(rows: Sequence[dict]) -> None:
    """Raise unless every row has an image that can be read, naming the row that has not."""
    for index, row in enumerate(rows):
        if not pictures_of(row):
            raise ValueError(
                f"row {row.get('id', index)!r} has no image: trl 1.16 cannot mix rows with and "
                "without images yet; give it one or remove it"
            )
