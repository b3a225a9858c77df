"""The other model families at tiny size: real `transformers` classes, random weights."""

from types import SimpleNamespace

import torch
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from sightline import tiny_vlm
from sightline.tasks import digits

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.1,
}
TEMPLATE = tiny_vlm.CHAT_TEMPLATE


def tokenizer(*special):
    """The tiny model's, with more special tokens."""
    made = tiny_vlm.build_processor(digits.corpus()).tokenizer
    made.add_special_tokens({"additional_special_tokens": [*tiny_vlm.SPECIAL_TOKENS, *special]})
    return made


def ids(made, **names):
    return {f"{name}_token_id": made.convert_tokens_to_ids(token) for name, token in names.items()}


def qwen_ids(made):
    return ids(
        made,
        image="<|image_pad|>",
        video="<|video_pad|>",
        vision_start="<|vision_start|>",
        vision_end="<|vision_end|>",
    )


def qwen_processor(words, processor_class, video_class):
    grid = {
        "patch_size": 8,
        "merge_size": 2,
        "size": {"shortest_edge": 16**2, "longest_edge": 64 * 16**2},
    }
    return processor_class(
        image_processor=Qwen2VLImageProcessor(**grid),
        tokenizer=words,
        video_processor=video_class(**grid),
        chat_template=TEMPLATE,
    )


def qwen2_vl():
    words = tokenizer()
    processor = qwen_processor(words, Qwen2VLProcessor, Qwen2VLVideoProcessor)
    config = Qwen2VLConfig(
        text_config={
            **TEXT,
            "vocab_size": len(words),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [2, 3, 3],
            },
        },
        vision_config={
            "depth": 1,
            "embed_dim": 32,
            "hidden_size": 64,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "initializer_range": 0.1,
        },
        dtype="float32",
        **qwen_ids(words),
    )
    return Qwen2VLForConditionalGeneration(config), processor


def qwen3_vl():
    words = tokenizer()
    processor = qwen_processor(words, Qwen3VLProcessor, Qwen3VLVideoProcessor)
    config = Qwen3VLConfig(
        text_config={
            **TEXT,
            "vocab_size": len(words),
            "head_dim": 16,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [2, 3, 3],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
            "initializer_range": 0.1,
        },
        dtype="float32",
        **qwen_ids(words),
    )
    return Qwen3VLForConditionalGeneration(config), processor


def llava_onevision():
    words = tokenizer()
    pinpoints = [[32, 32], [32, 64], [64, 32], [64, 64]]
    template = TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<|image_pad|>\n")
    processor = LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(
            size={"height": 32, "width": 32}, image_grid_pinpoints=pinpoints
        ),
        tokenizer=words,
        video_processor=LlavaOnevisionVideoProcessor(size={"height": 32, "width": 32}),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        image_token="<|image_pad|>",
        video_token="<|video_pad|>",
        chat_template=template,
    )
    config = LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **TEXT, "vocab_size": len(words)},
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "vision_use_head": False,
        },
        image_grid_pinpoints=pinpoints,
        vision_feature_layer=-1,
        dtype="float32",
        **{
            name.replace("token_id", "token_index"): value
            for name, value in ids(words, image="<|image_pad|>", video="<|video_pad|>").items()
        },
    )
    return LlavaOnevisionForConditionalGeneration(config), processor


def idefics3(config_class=Idefics3Config, model_class=Idefics3ForConditionalGeneration):
    around, whole, image = "<fake_token_around_image>", "<global-img>", "<image>"
    tiles = [f"<row_{row}_col_{column}>" for row in (1, 2, 3) for column in (1, 2, 3)]
    words = tokenizer(around, whole, image, "<end_of_utterance>", *tiles)
    words.fake_image_token, words.image_token, words.global_image_token = around, image, whole
    template = TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", image)
    processor = Idefics3Processor(
        image_processor=Idefics3ImageProcessor(
            size={"longest_edge": 64}, max_image_size={"longest_edge": 32}
        ),
        tokenizer=words,
        image_seq_len=4,
        chat_template=template,
    )
    config = config_class(
        text_config={"model_type": "llama", **TEXT, "vocab_size": len(words)},
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "initializer_range": 0.1,
        },
        scale_factor=2,
        pad_token_id=words.pad_token_id,
        dtype="float32",
        **ids(words, image=image),
    )
    return model_class(config), processor


def smolvlm():
    # its own processor differs in videos only, for which it needs one more package
    return idefics3(SmolVLMConfig, SmolVLMForConditionalGeneration)


BUILDERS = {
    "qwen2_vl": qwen2_vl,
    "qwen3_vl": qwen3_vl,
    "llava_onevision": llava_onevision,
    "idefics3": idefics3,
    "smolvlm": smolvlm,
}


def build(name):
    """A model of this family with random weights, in evaluation mode, and its processor."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, processor = BUILDERS[name]()
    return SimpleNamespace(model=model.eval(), processor=processor)
