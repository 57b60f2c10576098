"""From a configuration to a simulator: a closed set of names, each imported when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from vega_policy.simulators.config import SimulatorConfig

if TYPE_CHECKING:
    from vega_policy.simulators.base import Backbone, Simulator
    from vega_policy.simulators.loading import PartLoader

_MODULES = {
    "wan": "wan",
    "svd": "svd",
    "stable_diffusion": "stable_diffusion",
    "vae": "vae",
    "vjepa2": "discriminative",
    "dino": "discriminative",
}


def build_simulator(config: SimulatorConfig, *, load_weights: bool = True) -> Simulator:
    """The frozen simulator that a configuration describes, on the CPU.

    Under `torch.device("meta")` with `load_weights=False` nothing is allocated or read, which checks every
    shape of a large configuration.

    Args:
        config: What to build.
        load_weights: False builds random weights of the right shapes whatever `config.source` says.

    Raises:
        MissingWeightsError: The configured weights are not there; the message says where it looked.
        ValueError: The configuration does not fit the weights.
    """
    from vega_policy.simulators.base import Simulator
    from vega_policy.simulators.controls import ShuffledSimulator, zeros_like
    from vega_policy.simulators.loading import PartLoader
    from vega_policy.simulators.portable import portable

    if config.control == "zeros":
        backbone: Backbone = zeros_like(config, _build_backbone)
    else:
        backbone = _build_backbone(PartLoader(config, load_weights=load_weights))
    if config.compile:
        backbone.compile(dynamic=False)
    kind = ShuffledSimulator if config.control == "shuffled" else Simulator
    return kind(
        backbone,
        image_size_px=config.image_size_px,
        clip_length=config.clip_length,
        cuda_graph=config.cuda_graph,
        portable_config=portable(config),
    )


def _build_backbone(parts: PartLoader) -> Backbone:
    module = importlib.import_module(f"vega_policy.simulators.{_MODULES[parts.config.name]}")
    return module.build(parts)
