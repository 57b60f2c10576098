"""Costs are counted, by part, and grow with what is configured."""

import pytest

from vega_policy.cli.bench_policy import policy_table
from vega_policy.configuration_vega import VegaConfig
from vega_policy.cost import decision_latency_s, policy_cost
from vega_policy.fusion_config import FusionConfig
from vega_policy.modeling_vega import VegaPolicy


def test_parts_add_up_to_the_policy(config: VegaConfig, policy: VegaPolicy) -> None:
    parts = {part.name: part for part in policy_cost(config)}
    assert parts.keys() == {"simulator", "backbone", "proprio", "head"}
    assert sum(part.parameters for part in parts.values()) == sum(p.numel() for p in policy.parameters())
    assert parts["simulator"].learning == 0
    assert all(part.flops is not None and part.flops > 0 for part in parts.values())


def test_the_simulator_costs_nothing_when_it_is_not_run(config: VegaConfig) -> None:
    config.fusion = FusionConfig(name="none")
    flops = {part.name: part.flops for part in policy_cost(config)}
    assert flops["simulator"] == 0
    assert flops["backbone"] != 0


def test_a_clip_costs_more_than_a_picture(config: VegaConfig) -> None:
    def flops(clip_length: int) -> int:
        config.simulator.clip_length = clip_length
        (cost,) = (part for part in policy_cost(config) if part.name == "simulator")
        assert cost.flops is not None
        return cost.flops

    assert flops(5) > 1.5 * flops(1)


def test_latency_is_measured_per_decision(policy: VegaPolicy) -> None:
    policy.reset()
    seconds = decision_latency_s(policy, rounds=3)
    assert len(seconds) == 3
    assert min(seconds) > 0


def test_the_table_has_a_line_per_part_and_a_total() -> None:
    part = {"name": "head", "parameters": 2_000_000, "learning": 1_000_000, "flops": None}
    report = {
        "machine": "m",
        "torch": "t",
        "config": {"device": "cpu", "num_threads": 1, "rounds": 1},
        "policies": {"tiny": {"parts": [part, {**part, "name": "simulator"}], "latency_ms": 12.3}},
    }
    lines = policy_table(report).splitlines()
    assert lines[-3] == "| tiny | head | 2.00 | 1.00 | not counted |  |"
    assert lines[-1] == "| tiny | **all** | 4.00 | 2.00 | not counted | 12 |"


def test_nonsense_is_refused() -> None:
    from vega_policy.cli.bench_policy import PolicyBenchConfig

    with pytest.raises(ValueError, match="--rounds >= 1"):
        PolicyBenchConfig(rounds=0)
