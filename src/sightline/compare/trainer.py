"""The trainer of a cell: the ordinary one, which also tells references what they know."""

from types import ModuleType
from typing import Any

import torch
from datasets import Dataset
from jaxtyping import Float
from torch import Tensor

from ..algorithms import ViewScores
from ..encoding import Encoded, pictures_of
from ..engines.trl import PerceptionGRPOTrainer
from ..scoring import Scored, score_views
from ..token_labels import label_tokens, token_texts
from .rules import LABELS, UNKNOWN, told_to


class LabelledTrainer(PerceptionGRPOTrainer):
    """Hands the tables of `rules.TOLD` to a rule that reads them, beside the scores of its views.

    Args:
        task: whose grammar labels the responses.
        args, kwargs: of `PerceptionGRPOTrainer`.
    """

    def __init__(self, *args: Any, task: ModuleType, **kwargs: Any):
        self.task = task
        super().__init__(*args, **kwargs)

    def _example(self, rows: Dataset) -> dict | None:
        # a task without any image is a control: every token shall weigh 1
        pictures = any(pictures_of(row) for row in self.task.rows(1))
        return super()._example(rows) if pictures else None

    def _weights(self, responses: Encoded, scored: Scored) -> Tensor:
        told = {name: ViewScores(self._told(name, responses)) for name in told_to(self.algorithm)}
        return super()._weights(responses, scored._replace(views=scored.views | told))

    def _told(self, name: str, responses: Encoded) -> Float[Tensor, "B T"]:
        if name == "label":
            return labels_of(self._tokenizer, self.task, responses)
        if name == "draw":
            # keyed, not from the global stream: that one would shift the samples of later steps
            draws = torch.Generator().manual_seed(self.args.seed * 100_003 + self.state.global_step)
            return torch.rand(responses.mask.shape, generator=draws)
        scored = score_views(
            self.model,
            responses,
            self.algorithm.views(),
            temperature=self.args.temperature,
            exact_kl=True,
            extras=True,
            chunk_rows=self.args.per_device_train_batch_size,
        )
        return scored.extras["blind"]["entropy"]


def labels_of(tokenizer: Any, task: ModuleType, responses: Encoded) -> Float[Tensor, "B T"]:
    """The oracle label of every token as a number, `LABELS`; `UNKNOWN` outside the grammar."""
    table = torch.zeros(responses.mask.shape)
    for row, mask in enumerate(responses.mask):
        texts = token_texts(tokenizer, responses.response_ids[row][mask].tolist())
        end = len(texts) - (texts[-1:] == [tokenizer.eos_token])
        spans = task.spans("".join(texts[:end]))
        if spans is None:
            table[row, mask] = UNKNOWN
        else:
            labels = [LABELS[label] for label in label_tokens(texts, spans)]
            table[row, mask] = torch.tensor(labels)
    return table
