"""A model and its processor, from a name: tiny, a folder, or a model of the Hub."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from .families import family_of
from .model_shape import existing_place, model_place
from .tasks import digits
from .warm_start import load_warm_model

FILES = ("config.json", "adapter_config.json")  # either makes a folder one with a model


def load_model(
    name: str, *, dtype: str = "auto", device: str = "", scored: bool = False
) -> tuple[Any, Any]:
    """The model in evaluation mode, and its processor.

    Args:
        name: tiny, a folder (adapters too), or a model of the Hub.
        dtype: of its weights, or auto for that of its checkpoint.
        device: or "" for a GPU where there is one.
        scored: whether its responses are to be scored, for which its family must be known.

    Raises:
        ValueError: it takes no images, or its family is not known and should be.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "tiny":
        warm: tuple[Any, Any] = load_warm_model(digits, 0)
        return warm[0].to(device), warm[1]
    place = existing_place(name, FILES)
    if (Path(place) / FILES[0]).is_file() or not Path(place).is_dir():  # adapters have none
        check_model(name, scored=scored)
    try:
        model: Any = AutoModelForImageTextToText.from_pretrained(place, dtype=dtype)
    except OSError as error:
        raise _unreadable(name, error) from error
    if scored:
        family_of(model.config.model_type)
    return model.to(device).eval(), load_processor(name)


def load_processor(name: str) -> Any:
    """The processor of a model that is not tiny, which pads where responses are to be sampled."""
    try:
        return AutoProcessor.from_pretrained(model_place(name), padding_side="left")
    except OSError as error:
        raise _unreadable(name, error) from error


def check_model(name: str, *, scored: bool = True) -> None:
    """Raise unless `name` is tiny, or a folder or a place on the Hub with a model with eyes.

    Args:
        scored: whether its family must be known too.
    """
    if name == "tiny":
        return
    place = existing_place(name)
    try:
        config = AutoConfig.from_pretrained(place)
    except OSError as error:
        raise _unreadable(name, error) from error
    if not hasattr(config, "vision_config"):
        raise ValueError(
            f"{name!r} is a {config.model_type} model without vision: it takes no images. Name a "
            "vision-language model"
        )
    if scored:
        family_of(config.model_type)


def weights_hash(model: Any) -> str:
    """A hash of a few numbers of each parameter: another checkpoint has another one."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in model.named_parameters():
        some = value.detach().flatten()[:64].float().cpu()
        digest.update(f"{name} {tuple(value.shape)}".encode() + some.numpy().tobytes())
    return digest.hexdigest()


def _unreadable(name: str, error: OSError) -> OSError:
    reason = str(error).split("\n")[0]
    return OSError(
        f"the configuration, weights or processor of {name!r} cannot be read, neither from the Hub "
        "nor from what was downloaded before: give a folder with its config.json, or check the "
        f"name and the network ({reason})"
    )
