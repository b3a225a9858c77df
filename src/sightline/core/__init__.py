"""The mathematics: tensors in, tensors out, nothing but torch.

``masked`` takes statistics over real tokens, ``divergence`` measures what a view changes,
``advantages`` compares the responses to a prompt, ``losses`` is GRPO and DAPO.
"""

from .advantages import group_advantages
from .divergence import (
    ViewComparison,
    compare_views,
    exact_kl,
    jensen_shannon,
    sampled_kl,
    token_log_probs,
)
from .losses import clipped_surrogate, sequence_mean, token_mean
from .masked import keep_real, response_max, response_mean, response_min, response_top

__all__ = [
    "ViewComparison",
    "clipped_surrogate",
    "compare_views",
    "exact_kl",
    "group_advantages",
    "jensen_shannon",
    "keep_real",
    "response_max",
    "response_mean",
    "response_min",
    "response_top",
    "sampled_kl",
    "sequence_mean",
    "token_log_probs",
    "token_mean",
]
