"""What a simulator costs, counted without weights: parameters and floating-point operations.

Everything runs on torch's meta device, so the largest configuration takes seconds and no memory. A
multiply-add counts as two operations, as FLOPs of accelerators are counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vega_policy.simulators.config import SimulatorConfig
from vega_policy.simulators.factory import build_simulator


@dataclass(frozen=True)
class SimulatorCost:
    """Counts for one configuration.

    Attributes:
        parameters: Kept in memory, all of them frozen.
        encoder_parameters: Of these, the autoencoder's; 0 where there is none.
        flops: Of one clip of one camera.
        encoder_flops: Of these, the autoencoder's.
        tokens: Tokens read out per camera.
        dim: Width of a token.
    """

    parameters: int
    encoder_parameters: int
    flops: int
    encoder_flops: int
    tokens: int
    dim: int


def simulator_cost(config: SimulatorConfig) -> SimulatorCost:
    """Counts a simulator's parameters, and the operations of one clip of full length.

    Args:
        config: Of any size. Its weights are never read; the shapes come from `architecture`, a known Hub id
            or the source's configuration files.
    """
    with torch.device("meta"):
        simulator = build_simulator(replace(config, compile=False, cuda_graph=False), load_weights=False)
        clip = torch.empty(1, config.clip_length, 3, config.image_size_px, config.image_size_px)
    with FlopCounterMode(display=False) as counter:
        grid = simulator(clip)
    encoder = getattr(simulator.backbone, "encoder", nn.Identity())
    encoder_counts = counter.get_flop_counts().get(f"{type(simulator).__name__}.backbone.encoder", {})
    return SimulatorCost(
        parameters=_num_parameters(simulator),
        encoder_parameters=_num_parameters(encoder),
        flops=counter.get_total_flops(),
        encoder_flops=sum(encoder_counts.values()),
        tokens=grid.values.shape[1] * grid.values.shape[2],
        dim=simulator.dim,
    )


def _num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
