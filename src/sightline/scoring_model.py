"""The model that scores, from a name."""

import hashlib
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from .families import family_of
from .model_shape import existing_place
from .tasks import digits
from .warm_start import load_warm_model


def load_model(name: str, dtype: str, device: str) -> tuple[Any, Any]:
    """The model in evaluation mode, and its processor.

    Args:
        name: tiny, a folder, or a model of the Hub.
        dtype: of its weights, or auto for that of its checkpoint.
        device: or "" for a GPU where there is one.

    Raises:
        ValueError: it takes no images, or its family is not known.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "tiny":
        warm: tuple[Any, Any] = load_warm_model(digits, 0)
        return warm[0].to(device), warm[1]
    place = existing_place(name)
    config = AutoConfig.from_pretrained(place)
    if not hasattr(config, "vision_config"):
        raise ValueError(
            f"{name!r} is a {config.model_type} model without vision: it takes no images"
        )
    family_of(config.model_type)
    model: Any = AutoModelForImageTextToText.from_pretrained(place, dtype=dtype)
    processor = AutoProcessor.from_pretrained(place, padding_side="left")
    return model.to(device).eval(), processor


def weights_hash(model: Any) -> str:
    """A hash of a few numbers of each parameter: another checkpoint has another one."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in model.named_parameters():
        some = value.detach().flatten()[:64].float().cpu()
        digest.update(f"{name} {tuple(value.shape)}".encode() + some.numpy().tobytes())
    return digest.hexdigest()
