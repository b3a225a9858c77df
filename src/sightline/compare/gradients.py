"""Is the gradient less noisy where the credit goes to visual tokens? Measured, not argued.

Batches of responses are sampled from one policy that is not trained; each rule turns each batch
into a gradient. Between batches a gradient has a mean, which is what the rule pursues, and a
variance, which is what it pays. A rule that weighs tokens pursues another direction than the
policy gradient does: how far it agrees with it is measured too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..algorithms import Algorithm, ViewScores, token_advantages
from ..core import clipped_surrogate, group_advantages, token_mean
from ..draws import Draws
from ..encoding import Encoded, encode
from ..evaluate import sampled_responses
from ..rewards import exact_answer, think_format
from ..run_arguments import MIX
from ..scoring import score_views
from ..views import View
from .rules import Told
from .trainer import labels_of


@dataclass(frozen=True)
class GradientStatistics:
    """Of one rule's gradient over batches; all without the bias of a finite number of them.

    Args:
        batches: how many.
        norm: of the mean gradient; 0 where the estimate of its square is below 0.
        deviation: square root of the total variance of a batch's gradient around the mean.
        signal_to_noise: squared norm of the mean over the total variance.
        cosine: between the mean gradient and that of the reference, from different batches; None
            where a mean is not to be told from 0.
        batch_norm: mean norm of a batch's gradient, as gradient clipping sees it.
    """

    batches: int
    norm: float
    deviation: float
    signal_to_noise: float
    cosine: float | None
    batch_norm: float


class Sums:
    """What has to be kept of many long gradients: their sum, on even and odd batches apart."""

    def __init__(self, size: int):
        self.halves = torch.zeros(2, size, dtype=torch.float64)
        self.squares, self.norms, self.count = 0.0, 0.0, 0

    def add(self, gradient: Float[Tensor, " N"]) -> None:
        """Count one batch's gradient."""
        self.halves[self.count % 2] += gradient
        square = gradient.double().square().sum().item()
        self.squares, self.norms = self.squares + square, self.norms + square**0.5
        self.count += 1

    def square_of_mean(self) -> float:
        """Unbiased: products of a gradient with itself are left out."""
        total = self.halves.sum(0).square().sum().item()
        return (total - self.squares) / (self.count * (self.count - 1))

    def variance(self) -> float:
        """Unbiased, summed over all weights."""
        total = self.halves.sum(0).square().sum().item()
        return (self.squares - total / self.count) / (self.count - 1)

    def statistics(self, reference: "Sums") -> GradientStatistics:
        """Of these batches, beside the `reference` rule's gradients of the same ones."""
        mean, variance = self.square_of_mean(), self.variance()
        sizes = [(self.count + 1) // 2, self.count // 2]
        cross = [
            (self.halves[half] @ reference.halves[1 - half]).item() / (sizes[0] * sizes[1])
            for half in (0, 1)
        ]
        lengths = mean * reference.square_of_mean()
        return GradientStatistics(
            batches=self.count,
            norm=max(mean, 0.0) ** 0.5,
            deviation=variance**0.5,
            signal_to_noise=mean / variance,
            cosine=sum(cross) / 2 / lengths**0.5 if mean > 0 and lengths > 0 else None,
            batch_norm=self.norms / self.count,
        )


def measure_gradients(
    model: Any,
    processor: Any,
    task: ModuleType,
    rules: Mapping[str, Algorithm],
    reference: str,
    *,
    batches: int,
    prompts: int,
    group_size: int,
    max_new_tokens: int,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, GradientStatistics]:
    """The gradient of every rule on the same sampled batches, under DAPO's loss.

    Args:
        reference: the rule whose mean gradient is the one to agree with.
        batches: at least 4, of `prompts` questions with `group_size` responses each.
    """
    if batches < 4:
        raise ValueError(f"batches must be at least 4, got {batches}")
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    sums = {name: Sums(sum(w.numel() for w in weights)) for name in rules}
    questions = task.rows(batches * prompts, seed=seed, split="rl")
    for index in range(batches):
        asked = questions[index * prompts : (index + 1) * prompts]
        rows = [row for row in asked for _ in range(group_size)]
        responses, advantages = _roll_out(
            model, processor, rows, group_size, max_new_tokens, 1_000_003 * seed + index
        )
        tables = _tables(model, processor, task, rules, rows, responses, seed + index)
        log_probs = _log_probs(model, responses)
        for place, (name, rule) in enumerate(rules.items()):
            credit = token_advantages(rule, advantages, tables, responses.mask)
            surrogate = clipped_surrogate(log_probs, log_probs.detach(), credit)
            loss = token_mean(surrogate, responses.mask)
            gradient = torch.autograd.grad(
                loss, weights, retain_graph=place + 1 < len(rules), allow_unused=True
            )
            sums[name].add(_flat(gradient, weights))
        progress(index + 1)
    if not sums[reference].squares:
        raise ValueError(
            f"no group of {batches} batches differs in reward, so there is no gradient: take a "
            "policy that is sometimes right, or more batches"
        )
    return {name: found.statistics(sums[reference]) for name, found in sums.items()}


def _roll_out(
    model: Any, processor: Any, rows: Sequence[dict], group_size: int, longest: int, seed: int
) -> tuple[Encoded, Float[Tensor, " B"]]:
    """Responses sampled at temperature 1, with the advantages of TRL's default."""
    seeds = [seed * len(rows) + place for place in range(len(rows))]
    sampled = sampled_responses(model, processor, rows, seeds, max_new_tokens=longest)
    texts = [response.text for response in sampled]
    right = exact_answer(texts, [row["answer"] for row in rows])
    mixed = [MIX[0] * a + MIX[1] * b for a, b in zip(right, think_format(texts), strict=True)]
    return encode(processor, rows, texts), group_advantages(torch.tensor(mixed), group_size)


def _tables(
    model: Any,
    processor: Any,
    task: ModuleType,
    rules: Mapping[str, Algorithm],
    rows: Sequence[dict],
    responses: Encoded,
    seed: int,
) -> dict[str, ViewScores]:
    """The scores of all views of all rules, and what references are told."""
    views = _views(rules)
    told = {name for rule in rules.values() if isinstance(rule, Told) for name in rule.told}
    scored = score_views(
        model,
        responses,
        views,
        processor=processor,
        draws=Draws.of(rows, seed),
        exact_kl=True,
        extras="entropy" in told,
    )
    tables = dict(scored.views)
    if "label" in told:
        tables["label"] = ViewScores(labels_of(processor.tokenizer, task, responses))
    if "draw" in told:
        draws = torch.Generator().manual_seed(seed)
        tables["draw"] = ViewScores(torch.rand(responses.mask.shape, generator=draws))
    if "entropy" in told:
        tables["entropy"] = ViewScores(scored.extras["blind"]["entropy"])
    return tables


def _views(rules: Mapping[str, Algorithm]) -> dict[str, View]:
    views: dict[str, View] = {}
    for name, rule in rules.items():
        for of, view in rule.views().items():
            if views.setdefault(of, view) != view:
                raise ValueError(
                    f"rule {name!r} reads another view as {of!r} than the rules before it, {view} "
                    f"and not {views[of]}: measure it apart"
                )
    return views


def _log_probs(model: Any, responses: Encoded) -> Float[Tensor, "B T"]:
    width = responses.mask.shape[1]
    logits = model(**responses.inputs, use_cache=False, logits_to_keep=width + 1).logits[:, :-1]
    found = logits.log_softmax(-1).gather(2, responses.response_ids[..., None])[..., 0]
    return found.masked_fill(~responses.mask, 0)


def _flat(gradient: Sequence[Tensor | None], weights: Sequence[Tensor]) -> Float[Tensor, " N"]:
    pairs = zip(gradient, weights, strict=True)
    return torch.cat([(torch.zeros_like(w) if g is None else g).flatten() for g, w in pairs])
