"""What differs between families of transformers MLLMs, one small class each."""

import importlib

from vega_policy.backbones.families.base import Family
from vega_policy.names import nearest_name_error

_MODULES = {
    "llava_onevision": "llava_onevision",
    "qwen2_5_vl": "qwen_vl",
    "qwen3_vl": "qwen_vl",
    "smolvlm": "idefics3",
    "idefics3": "idefics3",
    "paligemma": "paligemma",
    "internvl": "internvl",
}


def family_named(name: str) -> Family:
    """The family with transformers' `model_type` `name`.

    Raises:
        ValueError: No such family; the message names the nearest.
    """
    if name not in _MODULES:
        raise nearest_name_error("MLLM family", name, _MODULES)
    module = importlib.import_module(f"vega_policy.backbones.families.{_MODULES[name]}")
    return module.FAMILIES[name]
