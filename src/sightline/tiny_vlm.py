"""A Qwen2.5-VL of about a million parameters and its processor, built offline.

Nothing here is an architecture of ours: it is `transformers`' own
`Qwen2_5_VLForConditionalGeneration`, image processor, byte-level tokenizer and chat markup at
small sizes, so that a laptop walks the code path that real checkpoints walk.
"""

import json
from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# Qwen's chat markup. Unlike Qwen2.5's template it adds no system message of its own.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

INITIALIZER_RANGE = 0.08  # about 1 / sqrt(hidden size); the default 0.02 suits wide models only
PATCH = 8  # pixels; a merged cell, one image token, is 16 x 16


def build_processor(corpus: Iterable[str]) -> Qwen2_5_VLProcessor:
    """Qwen2.5-VL's processor; every word of `corpus` is one token of its byte-level vocabulary.

    Any other text still encodes, as bytes. The same corpus gives the same vocabulary.
    """
    size = {"shortest_edge": (2 * PATCH) ** 2, "longest_edge": 64 * (2 * PATCH) ** 2}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=PATCH, merge_size=2, size=size),
        tokenizer=_build_tokenizer(corpus),
        video_processor=Qwen2VLVideoProcessor(patch_size=PATCH, merge_size=2, size=size),
        chat_template=CHAT_TEMPLATE,
    )


def build_model(
    processor: Qwen2_5_VLProcessor, seed: int = 0
) -> Qwen2_5_VLForConditionalGeneration:
    """A Qwen2.5-VL with random float32 weights, drawn from `seed` alone, for `processor`."""
    tokenizer = processor.tokenizer
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
            "initializer_range": INITIALIZER_RANGE,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [4, 6, 6],  # time, row, column; sums to half a head
            },
            "bos_token_id": None,
            "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "depth": 3,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_heads": 4,
            "patch_size": PATCH,
            "spatial_merge_size": 2,
            "window_size": 16 * PATCH,
            "initializer_range": INITIALIZER_RANGE,
            "fullatt_block_indexes": [0, 1, 2],
            "out_hidden_size": 128,
        },
        tie_word_embeddings=True,
        dtype="float32",
        **{
            f"{name}_token_id": tokenizer.convert_tokens_to_ids(token)
            for name, token in {
                "image": "<|image_pad|>",
                "video": "<|video_pad|>",
                "vision_start": "<|vision_start|>",
                "vision_end": "<|vision_end|>",
            }.items()
        },
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def _build_tokenizer(corpus: Iterable[str]) -> Qwen2Tokenizer:
    trained = Tokenizer(models.BPE())
    layout = Qwen2Tokenizer()._tokenizer  # Qwen's own normalizer and word splitting
    trained.normalizer, trained.pre_tokenizer = layout.normalizer, layout.pre_tokenizer
    trained.train_from_iterator(
        sorted(set(corpus)),  # sorted: the vocabulary must not depend on the order of a set
        # Far more merges than a small corpus has: training ends when every word is one token.
        trainers.BpeTrainer(
            vocab_size=100_000,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    bpe = json.loads(trained.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=bpe["vocab"],
        merges=[tuple(pair) for pair in bpe["merges"]],  # pyright: ignore[reportArgumentType]
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS),
        padding_side="left",
    )
