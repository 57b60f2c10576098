"""Architectures of published checkpoints, so that shapes can be checked without their files."""

from vega_policy.backbones.families.base import Architecture

_SIGLIP_SO400M: Architecture = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
    "vision_use_head": False,
}
_QWEN2_5_VISION: Architecture = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
}
_MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}}
_QWEN2_500M: Architecture = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
}
_QWEN2_3B: Architecture = {
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
}
_QWEN2_7B: Architecture = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
}

KNOWN_ARCHITECTURES: dict[str, Architecture] = {
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": {
        "vision_config": _SIGLIP_SO400M,
        "text_config": {"model_type": "qwen2", "vocab_size": 152000, **_QWEN2_500M},
        "tie_word_embeddings": True,
    },
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": {
        "vision_config": _SIGLIP_SO400M,
        "text_config": {"model_type": "qwen2", "vocab_size": 152128, **_QWEN2_7B},
    },
    "Qwen/Qwen2.5-VL-3B-Instruct": {
        "vision_config": {**_QWEN2_5_VISION, "out_hidden_size": 2048},
        "text_config": {"vocab_size": 151936, **_QWEN2_3B, **_MROPE},
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen2.5-VL-7B-Instruct": {
        "vision_config": {**_QWEN2_5_VISION, "out_hidden_size": 3584},
        "text_config": {"vocab_size": 152064, **_QWEN2_7B, **_MROPE},
    },
}
