"""Responses of a model: the most likely ones, or samples that hang on nothing but their names."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, TopPLogitsWarper

from ..encoding import encode
from ..families import picture_tokens


@torch.no_grad()
def greedy_responses(
    model: Any,
    processor: Any,
    rows: Sequence[dict],
    max_new_tokens: int,
    batch_size: int = 128,
    progress: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """The most likely response to each row, without the end token."""
    model.eval()
    responses = []
    for start in range(0, len(rows), batch_size):
        inputs = encode(processor, rows[start : start + batch_size]).to(model.device).inputs
        generated = model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)
        responses += processor.batch_decode(
            generated[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        progress(len(responses))
    return responses


class Sampled(NamedTuple):
    """One response.

    Args:
        text: without the end token.
        tokens: how many were generated, the end token included.
        ended: whether it came to an end by itself; else it was cut off.
        ids: the tokens, the end token included where there is one.
    """

    text: str
    tokens: int
    ended: bool
    ids: list[int]


@torch.no_grad()
def sampled_responses(
    model: Any,
    processor: Any,
    rows: Sequence[dict],
    seeds: Sequence[int],
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_new_tokens: int = 2048,
) -> list[Sampled]:
    """One sampled response to each row, all in one batch.

    A token is drawn with one uniform number per row and step, from a generator that is seeded with
    the row's own seed: a response does not depend on which rows are its neighbours, but for the
    last bits of the logits. Tokens that stand for picture content are never drawn (T55), and what
    the checkpoint says of penalties and temperatures is not heeded.

    Args:
        temperature: 0 for the most likely token.
    """
    model.eval()
    inputs = encode(processor, rows).to(model.device).inputs
    width = inputs["input_ids"].shape[1]
    banned = sorted(picture_tokens(model.config))
    draw = DrawToken(seeds, width, max_new_tokens, banned, temperature, top_p)
    # every default, said aloud: generate() takes what is left open from the checkpoint's files
    generated = model.generate(
        **inputs,
        do_sample=False,  # the processor draws, and leaves one choice
        num_beams=1,
        temperature=1.0,
        top_p=1.0,
        top_k=50,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        max_new_tokens=max_new_tokens,
        logits_processor=LogitsProcessorList([draw]),
    )
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    found = []
    for ids in generated[:, width:].tolist():
        end = next((place for place, token in enumerate(ids) if token in ends), None)
        kept = ids if end is None else ids[: end + 1]
        written = kept if end is None else kept[:-1]
        text = processor.tokenizer.decode(written, skip_special_tokens=True)
        found.append(Sampled(text, len(kept), end is not None, kept))
    return found


class DrawToken(LogitsProcessor):
    """Leaves one token per row: the one that the row's own uniform number falls on.

    Args:
        seeds: one per row.
        width: columns of the prompts.
        steps: tokens to draw at most.
        banned: ids that are never drawn.
        temperature, top_p: as usual; at temperature 0 the most likely token is left.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        width: int,
        steps: int,
        banned: Sequence[int],
        temperature: float,
        top_p: float,
    ):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        # float64: numbers of 24 bits would never reach a word of probability 1e-8
        self.uniform = torch.stack(
            [torch.rand(steps, generator=g, dtype=torch.float64) for g in generators]
        )
        self.width, self.banned = width, list(banned)
        self.temperature = temperature
        self.top_p = TopPLogitsWarper(top_p) if top_p < 1 else None

    def __call__(
        self, input_ids: Int[Tensor, "B S"], scores: Float[Tensor, "B V"]
    ) -> Float[Tensor, "B V"]:
        scores = scores.float()
        scores[:, self.banned] = -torch.inf
        if not self.temperature:
            return scores
        scores = scores / self.temperature
        if self.top_p:
            scores = self.top_p(cast(Any, input_ids), cast(Any, scores))
        cumulative = scores.double().softmax(-1).cumsum(-1)
        uniform = self.uniform[:, input_ids.shape[1] - self.width].to(scores.device)
        # of the total, which rounding may leave below 1; right: a token of probability 0 is passed
        threshold = (uniform * cumulative[:, -1])[:, None]
        chosen = torch.searchsorted(cumulative, threshold, right=True)
        # a product that rounds up to the total would fall behind the last token
        last = (cumulative < cumulative[:, -1:]).sum(-1, keepdim=True)
        return torch.full_like(scores, -torch.inf).scatter(1, chosen.minimum(last), 0.0)
