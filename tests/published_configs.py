"""The sizes of the models that recipes name, as in the config.json that each was published with."""

TOKENS = {
    "image_token_id": 151655,
    "video_token_id": 151656,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
}


def qwen2_5_vl(hidden, mlp, layers, heads, keys, words, tied, vision_mlp=3420):
    return {
        "model_type": "qwen2_5_vl",
        "dtype": "bfloat16",
        "tie_word_embeddings": tied,
        **TOKENS,
        "text_config": {
            "hidden_size": hidden,
            "intermediate_size": mlp,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": keys,
            "vocab_size": words,
            "tie_word_embeddings": tied,
        },
        "vision_config": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": vision_mlp,
            "num_heads": 16,
            "out_hidden_size": hidden,
            "patch_size": 14,
            "spatial_merge_size": 2,
        },
    }


QWEN3_VL_8B = {
    "model_type": "qwen3_vl",
    "dtype": "bfloat16",
    "tie_word_embeddings": False,
    **TOKENS,
    "text_config": {
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
    },
    "vision_config": {
        "depth": 27,
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_heads": 16,
        "out_hidden_size": 4096,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [8, 16, 24],
    },
}

PUBLISHED = {
    "Qwen/Qwen2.5-VL-3B-Instruct": qwen2_5_vl(2048, 11008, 36, 16, 2, 151936, True),
    "Qwen/Qwen2.5-VL-7B-Instruct": qwen2_5_vl(3584, 18944, 28, 28, 4, 152064, False),
    "Qwen/Qwen2.5-VL-32B-Instruct": qwen2_5_vl(5120, 27648, 64, 40, 8, 152064, False, 3456),
    "Qwen/Qwen3-VL-8B-Instruct": QWEN3_VL_8B,
}
