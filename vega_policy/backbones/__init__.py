"""Multimodal LLMs that read camera images, generative tokens and an instruction into action-slot states.

`build_backbone(config, fusion, generative_dim)` is the one entry. Importing this package is cheap: torch and
transformers are imported when a backbone is built.
"""

from vega_policy.backbones.config import BackboneConfig, LoraSettings, tiny_smolvlm_config
from vega_policy.backbones.factory import build_backbone

__all__ = ["BackboneConfig", "LoraSettings", "build_backbone", "tiny_smolvlm_config"]
