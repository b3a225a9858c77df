"""Is the gradient less noisy where the credit goes to visual tokens? Measured, not argued.

Batches of responses are sampled from one policy that is not trained; each rule turns each batch
into a gradient. Between batches a gradient has a mean, which is what the rule pursues, and a
variance, which is what it pays. A rule that weighs tokens pursues another direction than the
policy gradient does: how far it agrees with it is measured too.
"""

from collections.abc import Callable, Mapping, Sequence
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
from .rules import told_to
from .signal_to_noise import GradientStatistics, gradient_statistics
from .trainer import labels_of


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

    Keeps all of them: rules times batches times weights in single precision.

    Args:
        reference: the rule whose mean gradient is the one to agree with.
        batches: at least 4, of `prompts` questions with `group_size` responses each.
    """
    if batches < 4:
        raise ValueError(f"batches must be at least 4, got {batches}")
    if reference not in rules:
        raise ValueError(f"reference must be one of {', '.join(rules)}, got {reference!r}")
    views = _views(rules)
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    size = sum(w.numel() for w in weights)
    gradients = {name: torch.zeros(batches, size) for name in rules}
    questions = task.rows(batches * prompts, seed=seed, split="rl")
    for index in range(batches):
        asked = questions[index * prompts : (index + 1) * prompts]
        rows = [row for row in asked for _ in range(group_size)]
        responses, advantages = _roll_out(
            model, processor, rows, group_size, max_new_tokens, 1_000_003 * seed + index
        )
        tables = _tables(model, processor, task, rules, views, rows, responses, seed + index)
        log_probs = _log_probs(model, responses)
        for place, (name, rule) in enumerate(rules.items()):
            credit = token_advantages(rule, advantages, tables, responses.mask)
            surrogate = clipped_surrogate(log_probs, log_probs.detach(), credit)
            loss = token_mean(surrogate, responses.mask)
            found = torch.autograd.grad(
                loss, weights, retain_graph=place + 1 < len(rules), allow_unused=True
            )
            gradients[name][index] = _flat(found, weights)
        progress(index + 1)
    if not gradients[reference].any():
        raise ValueError(
            f"no group of {batches} batches differs in reward, so there is no gradient: take a "
            "policy that is sometimes right, or more batches"
        )
    return {
        name: gradient_statistics(found, gradients[reference]) for name, found in gradients.items()
    }


def _roll_out(
    model: Any, processor: Any, rows: Sequence[dict], group_size: int, longest: int, seed: int
) -> tuple[Encoded, Float[Tensor, " B"]]:
    """Responses sampled at temperature 1, with the advantages of TRL's default."""
    seeds = [seed * len(rows) + place for place in range(len(rows))]
    sampled = sampled_responses(model, processor, rows, seeds, max_new_tokens=longest)
    texts = [response.text for response in sampled]
    right = exact_answer(texts, [row["answer"] for row in rows])
    mixed = [MIX[0] * a + MIX[1] * b for a, b in zip(right, think_format(texts), strict=True)]
    responses = encode(processor, rows, [response.ids for response in sampled])
    return responses, group_advantages(torch.tensor(mixed), group_size)


def _tables(
    model: Any,
    processor: Any,
    task: ModuleType,
    rules: Mapping[str, Algorithm],
    views: Mapping[str, View],
    rows: Sequence[dict],
    responses: Encoded,
    seed: int,
) -> dict[str, ViewScores]:
    """The scores of all views of all rules, and what references are told."""
    told = {name for rule in rules.values() for name in told_to(rule)}
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
