"""What a rollout may sample, with plain `generate` and with vLLM."""

import warnings
from collections.abc import Mapping
from typing import Any

from ...families import picture_tokens

BAN = -100.0  # added to a logit: the lowest bias that vLLM's server takes, and e^-100 is none


def ban_picture_tokens(trainer: Any) -> set[int]:
    """Never sample a token that stands for picture content: it would shift the images (T55).

    Returns:
        Their ids.
    """
    banned = picture_tokens(trainer.model.config)
    asked = trainer.args.generation_kwargs or {}
    if trainer.args.use_vllm:
        trainer.vllm_generation.generation_kwargs = with_ban(asked, banned)
    else:
        suppressed = sorted(banned.union(asked.get("suppress_tokens", [])))
        trainer.generation_config.suppress_tokens = suppressed
        trainer.generation_kwargs["suppress_tokens"] = suppressed
    return banned


def with_ban(asked: Mapping[str, Any], banned: set[int]) -> dict[str, Any]:
    """vLLM's sampling parameters `asked` for, and a bias against `banned` tokens.

    A bias names token ids and is taken by the engine and over HTTP alike; `bad_words` are texts,
    which vLLM would tokenize anew.
    """
    if "suppress_tokens" in asked:
        raise ValueError(
            "generation_kwargs['suppress_tokens'] is not known to vLLM, whose server would ignore "
            f"it: use logit_bias={{token: {BAN:.0f}}} for each of {asked['suppress_tokens']}"
        )
    # from YAML or JSON, keys come as text
    bias = {int(token): value for token, value in (asked.get("logit_bias") or {}).items()}
    for token in sorted(banned):
        if bias.get(token, BAN) > BAN:
            raise ValueError(
                f"generation_kwargs['logit_bias'] gives {bias[token]} to token {token}, which "
                "stands for picture content and must not be sampled: leave it out"
            )
        if token in (asked.get("allowed_token_ids") or ()):
            raise ValueError(
                f"generation_kwargs['allowed_token_ids'] holds {token}, which stands for picture "
                "content and must not be sampled: leave it out"
            )
    return {**asked, "logit_bias": {**bias, **dict.fromkeys(sorted(banned), BAN)}}


def warn_of_bias(trainer: Any) -> None:
    """Warn where responses are not drawn from the policy, and a ratio assumes that they are."""
    args, algorithm = trainer.args, trainer.algorithm
    neutral = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    names = [*neutral, "vllm_structured_outputs_regex"] if args.use_vllm else neutral
    asked = args.generation_kwargs or {}
    found = {name: asked.get(name, getattr(args, name)) for name in names}
    # top_k is -1 for "all" in vLLM; None is "not set"
    strange = {n: v for n, v in found.items() if v not in (None, -1, neutral.get(n))}
    biased = []
    if algorithm.views() and not algorithm.needs_exact_kl:
        biased.append(
            "the dependency of a token, which is estimated from the one that was sampled (an "
            "exact KL is not biased)"
        )
    if args.use_vllm and args.vllm_importance_sampling_correction:
        biased.append(
            "the importance ratio, which divides the trainer's probabilities by those of what "
            "vLLM left to draw from"
        )
    if strange and biased:
        settings = ", ".join(f"{name}={value!r}" for name, value in strange.items())
        warnings.warn(
            f"{settings}: responses are not drawn from the policy itself (T35), and this biases "
            f"{' and '.join(biased)}",
            stacklevel=3,
        )
