"""How large a model is, from its configuration alone: no weight is loaded."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from .families import QwenVL, family_of

# The language model's attention and MLP. Not its head: scoring multiplies with that weight itself.
# Not the vision tower, whose layers bear other names or sit elsewhere.
ADAPTED = (
    r".*\.(language_model|text_model)\.layers\.\d+\..*"
    r"\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
)


@dataclass(frozen=True)
class Stack:
    """Transformer blocks on top of each other.

    Args:
        parameters: of the blocks, norms and projections around them; no word table, no head.
        width: of the residual stream.
        mlp: width of the MLP.
        queries, keys: widths of all query heads, of all key heads, side by side.
    """

    parameters: int
    layers: int
    width: int
    mlp: int
    queries: int
    keys: int


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a vision-language model that its cost depends on.

    Args:
        parameters: all of them; a head that is the word table counts once.
        vocabulary: rows of the head.
        cell: pixels along a side of what becomes one image token.
        patches: that become one image token.
        patch_values: numbers per patch that the processor hands over.
        adapted: inputs plus outputs of the layers that LoRA adapts, summed.
        dtype: the one its checkpoint says it is in.
        drops: the image is hidden by leaving its tokens out.
    """

    parameters: int
    language: Stack
    vision: Stack
    vocabulary: int
    cell: int
    patches: int
    patch_values: int
    adapted: int
    dtype: str
    drops: bool

    def adapters(self, rank: int) -> int:
        """Parameters of LoRA: per layer, `rank x inputs` and `outputs x rank`."""
        return rank * self.adapted


def shape_of(config: Any) -> ModelShape:
    """The shape of the model of `config`, built without memory on torch's meta device."""
    family = family_of(config.model_type)
    if not isinstance(family, QwenVL):
        raise ValueError(
            f"the estimate does not know how many tokens an image of {config.model_type!r} takes: "
            "it is there for the Qwen families only"
        )
    with torch.device("meta"):
        model: Any = AutoModelForImageTextToText.from_config(config)
    text, vision = config.get_text_config(), config.vision_config
    # Qwen2-VL calls its tower's width otherwise, and hidden_size what the tower hands over
    older = config.model_type == "qwen2_vl"
    width = vision.embed_dim if older else vision.hidden_size
    mlp = int(width * vision.mlp_ratio) if older else vision.intermediate_size
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    decoder = count(model.get_decoder())
    total = count(model)
    attention = model.get_decoder().layers[0].self_attn
    return ModelShape(
        parameters=total,
        language=Stack(
            decoder - table.numel(),
            text.num_hidden_layers,
            text.hidden_size,
            text.intermediate_size,
            attention.q_proj.out_features,
            attention.k_proj.out_features,
        ),
        vision=Stack(
            total - decoder - (0 if head is table else head.numel()),
            vision.depth,
            width,
            mlp,
            width,
            width,
        ),
        vocabulary=len(head),
        cell=vision.patch_size * vision.spatial_merge_size,
        patches=vision.spatial_merge_size**2,
        patch_values=3 * vision.temporal_patch_size * vision.patch_size**2,
        adapted=sum(
            layer.in_features + layer.out_features
            for name, layer in model.named_modules()
            if isinstance(layer, nn.Linear) and re.fullmatch(ADAPTED, name)
        ),
        dtype=str(config.dtype or "float32").removeprefix("torch."),
        drops=family.drops,
    )


def model_place(name: str) -> str:
    """A model's folder, its ~ resolved, or its id on the Hub."""
    folder = Path(name).expanduser()
    return str(folder) if name.startswith((".", "/", "~")) or folder.is_dir() else name


def existing_place(name: str, files: Sequence[str] = ("config.json",)) -> str:
    """`model_place` of a model; raises where that is a folder without any of these `files`."""
    place = model_place(name)
    is_path = name.startswith((".", "/", "~")) or name.count("/") != 1 or Path(place).is_dir()
    if is_path and not any((Path(place) / file).is_file() for file in files):
        raise FileNotFoundError(
            f"no model at {name!r}: give a folder with a config.json, a Hub id such as "
            "Qwen/Qwen2.5-VL-3B-Instruct, or tiny"
        )
    return place


def count(model: nn.Module) -> int:
    """Parameters, each once however often it is used."""
    return sum(parameter.numel() for parameter in model.parameters())
