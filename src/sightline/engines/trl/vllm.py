"""vLLM under TRL's trainer: it must see the trainer's prompts, and agree on what it sampled.

TRL 1.16 hands vLLM prompts whose images are expanded already, one token per feature. A server
takes them so, with features beside them. An engine in the trainer's process expands them again,
without a word (T57): 74 tokens become 137 (huggingface/trl#6294, vllm-project/vllm#57796).
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from ...families import family_of
from ...scoring import pretrained, score_views
from . import seam

# Largest mean of |log p of the trainer - log p of vLLM| over sampled tokens, in nats. Other kernels
# in bf16 are commonly put at 0.01 to 0.05. Chosen by that, not measured on a GPU.
LARGEST_MEAN = 0.1
FAR = 0.5  # nats; only told
PROBED = 4  # responses to different prompts, on each process


@dataclass(frozen=True)
class CheckedGenerate:
    """`VLLMGeneration.generate` with the prompts it expects, and with its answer checked.

    Args:
        generate: TRL's.
        expands: whether vLLM will expand the images of a prompt.
        image_token: the id of which a prompt holds one per image feature.
        banned: ids that no response may hold.
    """

    generate: Callable[..., tuple[Any, ...]]
    expands: bool
    image_token: int
    banned: frozenset[int]

    def __call__(
        self,
        prompts: list[list[int]],
        images: list[list | None] | None,
        num_generations: int,
        profiler: Any = None,
    ) -> tuple[Any, ...]:
        sent = prompts
        if self.expands and images is not None:
            sent = [
                collapse(ids, self.image_token, len(pictures or []))
                for ids, pictures in zip(prompts, images, strict=True)
            ]
        seen, responses, *rest = self.generate(
            prompts=sent, images=images, num_generations=num_generations, profiler=profiler
        )
        for row, ids in enumerate(seen):
            # as it was sent: not every version tells what it made of it
            if list(ids) not in (prompts[row], sent[row]):
                raise ValueError(self._other_prompt(row, prompts[row], list(ids)))
        for row, ids in enumerate(responses):
            if inserted := self.banned.intersection(ids):
                raise ValueError(
                    f"response {row} holds the tokens {sorted(inserted)}, which stand for picture "
                    "content: vLLM did not heed logit_bias"
                )
        return prompts, responses, *rest

    def _other_prompt(self, row: int, ours: list[int], theirs: list[int]) -> str:
        counts = [ids.count(self.image_token) for ids in (ours, theirs)]
        return (
            f"row {row}: the trainer's prompt has {len(ours)} tokens, {counts[0]} of them image "
            f"tokens; vLLM made {len(theirs)} of it, with {counts[1]}. Images were expanded twice, "
            "or resized otherwise: vLLM reads the limits on pixels from the model's own folder, "
            "not from the processor that the trainer was given"
        )


def attach(trainer: Any, banned: set[int]) -> None:
    """Let rollouts of `trainer` go through `CheckedGenerate`; refuse what that cannot serve."""
    config, args = pretrained(trainer.model).config, trainer.args
    if not family_of(config.model_type).one_run:
        raise ValueError(
            f"use_vllm with the family {config.model_type!r}: its images are several runs of "
            "tokens, which cannot be handed to vLLM as one token each; set use_vllm=False"
        )
    if args.vllm_importance_sampling_correction and (
        args.vllm_importance_sampling_mode == "sequence_mask"
    ):
        warnings.warn(
            "vllm_importance_sampling_mode='sequence_mask', TRL's default, takes the gradient from "
            "a whole response once vLLM and the trainer disagree, so that a broken rollout looks "
            "like a missing gradient (T58): set 'token_truncate'",
            stacklevel=3,
        )
    engine = trainer.vllm_generation
    engine.generate = CheckedGenerate(
        engine.generate, engine.mode == "colocate", config.image_token_id, frozenset(banned)
    )


def collapse(ids: Sequence[int], image_token: int, images: int) -> list[int]:
    """The prompt `ids` with one `image_token` per image, for a family with one run per image.

    Images that touch are one run; which of several runs holds how many cannot be told.
    """
    runs = sum(token == image_token for token, _ in groupby(ids))
    if runs not in (images, min(images, 1)):
        raise ValueError(
            f"{images} image(s) lie in {runs} runs of image tokens (id {image_token}), and which "
            "of them touch cannot be told: put a word between images, or set use_vllm=False"
        )
    each = images // max(runs, 1)
    collapsed = []
    for token, run in groupby(ids):
        collapsed += [token] * each if token == image_token else run
    return collapsed


def check_alignment(trainer: Any, output: Mapping[str, Any]) -> bool:
    """Raise if vLLM and the trainer disagree about the log-probs of what vLLM sampled.

    The first rollout is compared as it is: another would cost a generation and show no more. The
    trainer's side is scored here, in the way that scores views, since TRL has old log-probs only
    where it corrects by them. Every process comes to the same end.

    Args:
        output: TRL's rollout batch.

    Returns:
        Whether responses to images were compared; until then nothing is known of images.
    """
    gaps, pictures = _gaps(trainer, output)
    largest = gaps.max() if len(gaps) else 0.0
    mine = torch.tensor([gaps.sum(), largest, (gaps > FAR).sum(), len(gaps), pictures])
    stats = trainer.accelerator.gather(mine[None].to(trainer.accelerator.device))
    total, _, far, tokens, pictures = stats.sum(0).tolist()
    if not tokens:
        return False
    mean, largest = total / tokens, float(stats[:, 1].max())
    if not mean <= LARGEST_MEAN:  # NaN included
        raise ValueError(
            f"vLLM and the trainer disagree about the tokens that vLLM sampled: their log-probs "
            f"differ by {mean:.3f} nats on average and by {largest:.2f} at most over "
            f"{tokens:.0f} tokens, {far / tokens:.0%} of them by more than {FAR}; up to "
            f"{LARGEST_MEAN} on average is put down to rounding. Likely causes: images expanded "
            "twice or resized otherwise, a processor that pads on the right, log-probs that are "
            f"raw instead of processed at temperature {trainer.args.temperature} (start the server "
            "with --logprobs-mode processed_logprobs), a top_p, top_k or min_p that cuts much off, "
            "weights that did not reach vLLM"
        )
    seam.log(trainer, {"sampling/alignment_mean": mean})
    return bool(pictures)


def _gaps(trainer: Any, output: Mapping[str, Any]) -> tuple[torch.Tensor, int]:
    """`|log p of the trainer - log p of vLLM|` of a few responses' tokens; how many had images."""
    responses = seam.read(output)
    # one per prompt, those with images first; a truncated one may be masked whole (T56)
    first: dict[int, int] = {}
    # under FSDP all processes score as many, and leave out afterwards what is masked
    usable = responses.mask.any(1) | seam.is_sharded(trainer)
    for row in usable.nonzero().flatten().tolist():
        first.setdefault(row // trainer.num_generations, row)
    rows = sorted(first.values(), key=lambda row: not responses.num_images[row])[:PROBED]
    if not rows:
        return torch.zeros(0), 0
    part = responses.select(rows)
    ours = score_views(
        trainer.model,
        part,
        {},
        temperature=trainer.args.temperature,
        chunk_rows=trainer.args.per_device_train_batch_size,
    ).log_probs
    theirs = output["sampling_per_token_logps"][rows]
    known = part.mask & ~theirs.isnan()  # NaN where vLLM gave none
    return (ours - theirs)[known].abs(), sum(count > 0 for count in part.num_images)
