"""The model that is evaluated, and what is known of how it was trained."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from .. import models
from ..model_shape import model_place
from ..prompts import NONE, PROMPTS, Prompt
from ..warm_start import PACKAGED

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
    model, processor = models.load_model(name)
    place = PACKAGED if name == "tiny" else Path(model_place(name))
    identity = _weights(place) if place.exists() else model.config._commit_hash
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
