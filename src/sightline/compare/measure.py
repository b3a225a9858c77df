"""What a policy can do on held-out questions, and whether dependency finds what it had to read."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from ..algorithms import ViewScores
from ..encoding import encode
from ..evaluate import auroc, greedy_responses
from ..rewards import exact_answer
from ..scoring import score_views
from ..views import Blind, SameImage
from .rules import LABELS, UNKNOWN
from .trainer import labels_of

FOUND = (  # what `found_by` says of a view
    *("auroc_k3", "precision_k3", "auroc_kl", "precision_kl"),
    *(f"dependency_{label}" for label in LABELS),
)

MEASURED = (  # the numbers of a curve's points
    *("accuracy", "reading", "reasoning", "in_grammar", "twin_accuracy"),
    *FOUND,
    *("tokens", "passes", "seconds"),
)


class Answers(NamedTuple):
    """Greedy responses to questions.

    Args:
        texts: the responses.
        right: whether the boxed answer is right.
        read: whether every word that is read is; False outside the task's grammar.
        follows: whether the answer follows from the words the response says it reads; None outside
            the grammar.
    """

    texts: list[str]
    right: list[bool]
    read: list[bool]
    follows: list[bool | None]

    def numbers(self) -> dict[str, float | None]:
        """Accuracy, and its two parts: of reading, and of reasoning given what was read."""
        told = [follows for follows in self.follows if follows is not None]
        return {
            "accuracy": float(np.mean(self.right)),
            "reading": float(np.mean(self.read)),
            "reasoning": float(np.mean(told)) if told else None,
            "in_grammar": len(told) / len(self.right),
        }


def answer(
    model: Any, processor: Any, task: ModuleType, rows: Sequence[dict], max_new_tokens: int
) -> Answers:
    """The most likely responses to `rows`, and what is right about them."""
    texts = greedy_responses(model, processor, rows, max_new_tokens)
    right = [verdict == 1 for verdict in exact_answer(texts, [row["answer"] for row in rows])]
    read, follows = [], []
    for row, text in zip(rows, texts, strict=True):
        found = task.readings(text)
        read.append(found == tuple(row["reads"]))
        follows.append(
            None
            if found is None
            else exact_answer([text], [task.solve(row["question"], found)]) == [1]
        )
    return Answers(texts, right, read, follows)


def look(
    model: Any, processor: Any, task: ModuleType, rows: Sequence[dict], texts: Sequence[str]
) -> dict[str, float | None]:
    """How well the dependency under the blind view finds the tokens that had to be read."""
    responses = encode(processor, rows, texts)
    labels = labels_of(processor.tokenizer, task, responses)
    if not (responses.mask & (labels == LABELS["visual"])).any():
        return dict.fromkeys(FOUND)
    score = score_views(model, responses, {"blind": Blind()}, exact_kl=True).views["blind"]
    return found_by(score, labels, responses.mask)


def check_control(model: Any, processor: Any, rows: Sequence[dict], texts: Sequence[str]) -> None:
    """Raise where the same image again changes any token at all: then no dependency is one."""
    responses = encode(processor, rows, texts)
    scored = score_views(model, responses, {"same": SameImage()}, exact_kl=True, unchanged=True)
    same = scored.views["same"]
    log_ratio, kl = same.log_ratio, same.kl
    assert kl is not None
    if log_ratio.any() or kl.any():  # so does nan
        raise RuntimeError(
            "scored twice on the same image, tokens must not differ at all, and do by up to "
            f"{log_ratio.abs().max():.3g} in log-probability and {kl.abs().max():.3g} nats of KL: "
            "this model or installation cannot be compared on"
        )


def found_by(
    score: ViewScores, labels: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> dict[str, float | None]:
    """How well a view's dependency finds the tokens that had to be read; `FOUND` by name.

    Over responses in the task's grammar; all None where no token has to be read or none is in it.
    Per estimator (`k3`, `kl`): `auroc` over all tokens; `precision`, the share of visual tokens
    among the k most dependent of a response, k its number of visual tokens. And in nats the mean
    exact KL of visual tokens, of those of the answer and of the others.

    Args:
        score: with its exact KL.
        labels: of every token, from `labels_of`.
    """
    found: dict[str, float | None] = dict.fromkeys(FOUND)
    known = mask & (labels != UNKNOWN)
    visual = known & (labels == LABELS["visual"])
    if not visual.any():
        return found
    for name in ("k3", "kl"):
        dependency = score.dependency(mask, name, clamp=None)
        found[f"auroc_{name}"] = auroc(dependency[known].tolist(), visual[known].tolist())
        hits = [
            precision(values[row], is_visual[row])
            for values, is_visual, row in zip(dependency, visual, known, strict=True)
            if is_visual.any()
        ]
        found[f"precision_{name}"] = float(np.mean(hits))
    exact = score.dependency(mask, "kl", clamp=None)
    for label, number in LABELS.items():
        chosen = known & (labels == number)
        found[f"dependency_{label}"] = exact[chosen].mean().item() if chosen.any() else None
    return found


def precision(values: Float[Tensor, " T"], wanted: Bool[Tensor, " T"]) -> float:
    """Share of `wanted` tokens among as many of the greatest values; of equals, by their share."""
    count = int(wanted.sum())
    last = values.topk(count).values[-1]
    above, equal = values > last, values == last
    drawn = (count - int(above.sum())) / int(equal.sum())
    return (int((wanted & above).sum()) + drawn * int((wanted & equal).sum())) / count


def longest_response(processor: Any, task: ModuleType, rows: Sequence[dict]) -> int:
    """Tokens that a response may take: a few more than a demonstration; every batch is padded."""
    texts = [task.demonstration(row, np.random.default_rng(0)) for row in rows[:20]]
    most = max(len(ids) for ids in processor.tokenizer(texts)["input_ids"])
    return most + 4
