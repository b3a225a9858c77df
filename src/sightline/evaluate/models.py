"""The model that is evaluated, and what is known of how it was trained."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from .. import tasks
from ..model_shape import existing_place, model_place
from ..prompts import NONE, PROMPTS, Prompt
from ..warm_start import PACKAGED, load_warm_model

ENDS = 2**20  # bytes at each end of a weight file that go into its hash


class Loaded(NamedTuple):
    """A model that is ready.

    Args:
        about: what `run.json` says of it.
    """

    model: Any
    processor: Any
    about: dict[str, Any]


def load_model(name: str) -> Loaded:
    """The model called `name`: tiny, a folder (adapters too), or one of the Hub.

    On the GPU if there is one, in the type its weights are stored in.
    """
    if name == "tiny":
        model, processor = load_warm_model(tasks.load("digits"), seed=0)
        return Loaded(model, processor, {"name": name, **_computed(model, _weights(PACKAGED))})
    place = existing_place(name, ("config.json", "adapter_config.json"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        processor = AutoProcessor.from_pretrained(place, padding_side="left")
        model: Any = AutoModelForImageTextToText.from_pretrained(place, dtype="auto")
    except OSError as error:
        raise OSError(
            f"{name!r} cannot be read, neither from the Hub nor from what was downloaded before: "
            f"check the name, the network and the folder's files ({error})"
        ) from error
    identity = _weights(Path(place)) if Path(place).is_dir() else model.config._commit_hash
    model = model.to(device).eval()
    return Loaded(model, processor, {"name": name, **_computed(model, identity)})


def trained_prompt(name: str) -> Prompt | None:
    """The format that the model was trained with, from the `run.json` beside it; None if unknown.

    Raises:
        ValueError: `run.json` is there and cannot be read.
    """
    if name == "tiny":
        return NONE  # its warm start taught it to answer without being told how
    path = Path(model_place(name)).parent / "run.json"
    if not path.is_file():
        return None
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        if "task" in run:
            return NONE if run["model"] == "tiny" else PROMPTS["think-boxed"]
        if "data" not in run:
            return None
        about = run["data"]["prompt"]
        return Prompt(*(about[part] for part in ("name", "version", "template", "extractor")))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error!r}") from error


def _computed(model: Any, weights: str | None) -> dict[str, Any]:
    return {
        "weights": weights,
        "device": model.device.type,
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def _weights(path: Path) -> str:
    """A hash of names, sizes and ends of the weight files: enough to notice other ones."""
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as content:
            digest.update(content.read(ENDS))
            content.seek(max(0, size - ENDS))
            digest.update(content.read(ENDS))
    return digest.hexdigest()
