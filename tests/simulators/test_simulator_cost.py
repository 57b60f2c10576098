"""Counts of parameters and operations: against the formula, and for the real size without its weights."""

from dataclasses import replace

import torch

from vega_policy.simulators import SimulatorConfig, build_simulator, tiny_wan_config
from vega_policy.simulators.cost import simulator_cost

REAL = SimulatorConfig(source="Wan-AI/Wan2.1-T2V-1.3B-Diffusers", dtype="bfloat16")
DIM, FFN, BLOCKS = 1536, 8960, 21


def test_the_real_size_builds_without_weights() -> None:
    with torch.device("meta"):
        simulator = build_simulator(REAL, load_weights=False)
        grid = simulator(torch.empty(2, 1, 3, 240, 320))
    assert grid.values.shape == (2, 12, 16, DIM)
    assert grid.resized(16, 16).flatten().shape == (2, 256, DIM)
    assert len(simulator.backbone.transformer.blocks) == BLOCKS


def test_the_count_is_the_formulas() -> None:
    cost = simulator_cost(REAL)
    assert (cost.tokens, cost.dim) == (256, DIM)
    projections = 2 * cost.tokens * BLOCKS * (6 * DIM**2 + 2 * DIM * FFN)  # q, k, v, o; q, o to the text
    attention = 4 * cost.tokens * (cost.tokens + 2) * DIM * BLOCKS  # to itself, and to two text keys
    patches = 2 * cost.tokens * 64 * DIM
    assert cost.flops - cost.encoder_flops == projections + attention + patches


def test_parameters_are_those_that_are_kept() -> None:
    tiny = tiny_wan_config()
    simulator, cost = build_simulator(tiny), simulator_cost(tiny)
    assert cost.parameters == sum(p.numel() for p in simulator.parameters())
    assert cost.encoder_parameters == sum(p.numel() for p in simulator.backbone.encoder.parameters())
    assert simulator_cost(replace(tiny, block=3)).parameters > cost.parameters
