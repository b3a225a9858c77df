"""Perception-aware RL for vision-language models: reward the tokens that looked at the image.

``core`` is the mathematics, ``algorithms`` the methods, ``views`` what the model gets to see.
Everything else (``tasks``, ``rewards``, ``scoring``, ``engines``) is imported by its own name.
"""

from .algorithms import ALGORITHMS, PGPO, PRPO, VPPO, Algorithm, ViewScores, token_advantages
from .core import (
    ViewComparison,
    clipped_surrogate,
    compare_views,
    exact_kl,
    group_advantages,
    jensen_shannon,
    keep_real,
    response_max,
    response_mean,
    response_min,
    response_top,
    sampled_kl,
    sequence_mean,
    token_log_probs,
    token_mean,
)
from .views import (
    AddNoise,
    Blind,
    GaussianBlur,
    Gray,
    MaskPatches,
    OtherImage,
    PixelView,
    SameImage,
    TextOnlyPrompt,
    View,
)

__all__ = [
    "ALGORITHMS",
    "PGPO",
    "PRPO",
    "VPPO",
    "AddNoise",
    "Algorithm",
    "Blind",
    "GaussianBlur",
    "Gray",
    "MaskPatches",
    "OtherImage",
    "PixelView",
    "SameImage",
    "TextOnlyPrompt",
    "View",
    "ViewComparison",
    "ViewScores",
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
    "token_advantages",
    "token_log_probs",
    "token_mean",
]
