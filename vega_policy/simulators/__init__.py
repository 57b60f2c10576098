"""Latent World Simulators: frozen networks that turn camera frames into a grid of spatial tokens.

`build_simulator(config)` is the one entry. Importing this package is cheap: torch, diffusers and
transformers are imported when a simulator is built.
"""

from vega_policy.simulators.config import SimulatorConfig, tiny_wan_config
from vega_policy.simulators.factory import build_simulator

__all__ = ["SimulatorConfig", "build_simulator", "tiny_wan_config"]
