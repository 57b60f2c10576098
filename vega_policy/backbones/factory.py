"""From a configuration to a backbone; the families are imported when one is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vega_policy.backbones.config import BackboneConfig
from vega_policy.fusion_config import FusionConfig

if TYPE_CHECKING:
    from vega_policy.backbones.base import Backbone


def build_backbone(
    config: BackboneConfig, fusion: FusionConfig, generative_dim: int, *, load_weights: bool = True
) -> Backbone:
    """The multimodal LLM that a configuration describes, with the second visual stream, on the CPU.

    Under `torch.device("meta")` with `load_weights=False` nothing is allocated, which checks every shape of a
    large configuration.

    Args:
        config: Which MLLM and which of its weights learn.
        fusion: How the generative tokens join.
        generative_dim: Width of the simulator's tokens.
        load_weights: False builds random weights even if `config.source` is given: of the shapes in
            `known.py` for a published id listed there, else of those in the source's `config.json`.

    Raises:
        MissingWeightsError: The configured weights are not there; the message says where it looked.
        ImportError: The installed transformers is not the one this package was written for.
    """
    if config.family == "openvla":
        from vega_policy.backbones.openvla import build as build_openvla

        return build_openvla(config, fusion, generative_dim, load_weights=load_weights)
    from vega_policy.backbones.transformers_mllm import build

    return build(config, fusion, generative_dim, load_weights=load_weights)
