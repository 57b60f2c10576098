"""What a policy costs: parameters and floating-point operations by part, and the time of a decision.

Operations are counted on torch's meta device, where the largest policy needs no memory. Some multimodal
LLMs compute indices from their data and cannot run there; small ones are counted on the CPU instead, large
ones not. A multiply-add counts as two operations.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vega_policy.configuration_vega import VegaConfig, libero_features
from vega_policy.modeling_vega import VegaPolicy
from vega_policy.queues import FrameHistory

TASK = "put the black bowl on the plate"
SMALL_PARAMETERS = 100_000_000


@dataclass(frozen=True)
class PartCost:
    """Counts for one part of a policy.

    Attributes:
        name: `simulator`, `backbone` (with the fusion), `proprio` or `head`.
        parameters: Kept in memory.
        learning: Of these, how many a trainer changes.
        flops: Of one decision with all cameras, batch of one; None where they cannot be counted.
    """

    name: str
    parameters: int
    learning: int
    flops: int | None


def policy_cost(config: VegaConfig) -> list[PartCost]:
    """Counts each part of the policy that a configuration describes, without reading any weights."""
    policy = _build(config, "meta")
    flops = _count_flops(policy, "meta")
    is_small = sum(parameter.numel() for parameter in policy.parameters()) < SMALL_PARAMETERS
    if flops["backbone"] is None and is_small:
        flops = _count_flops(_build(config, "cpu"), "cpu")
    return [_part(name, part, flops[name]) for name, part in policy.named_children()]


def decision_latency_s(policy: VegaPolicy, rounds: int) -> list[float]:
    """Seconds of each of `rounds` decisions on the policy's own device, after two that are not counted."""
    device = str(policy.config.device)
    batch = _batch(policy, device)
    seconds = []
    for _ in range(rounds + 2):
        started_s = time.perf_counter()
        policy.predict_action_chunk(batch).cpu()
        seconds.append(time.perf_counter() - started_s)
    return seconds[2:]


def _build(config: VegaConfig, device: str) -> VegaPolicy:
    config.input_features, config.output_features = libero_features()
    with torch.device(device):
        return VegaPolicy(config, load_weights=False).eval()


def _batch(policy: VegaPolicy, device: str) -> dict[str, Any]:
    shapes = {name: (1, *feature.shape) for name, feature in (policy.config.input_features or {}).items()}
    return {name: torch.zeros(shape, device=device) for name, shape in shapes.items()} | {"task": [TASK]}


@torch.no_grad()
def _count_flops(policy: VegaPolicy, device: str) -> dict[str, int | None]:
    """Operations by part; None for a backbone that cannot run on the meta device."""
    batch = _batch(policy, device)
    clips = FrameHistory(policy.config.simulator.clip_length).extend(policy.cameras.clips(batch))
    simulator, _ = _counted(lambda: policy.simulate(clips))
    proprio, _ = _counted(lambda: policy.feel(batch))
    slots = torch.empty(1, policy.head.num_slots, policy.backbone.hidden_dim, device=device)
    head, _ = _counted(lambda: policy.head.sample(slots, [torch.Generator()]))
    try:
        everything, _ = _counted(lambda: policy.read(batch, clips))
        backbone = everything - simulator - proprio
    except NotImplementedError:
        backbone = None
    return {"simulator": simulator, "backbone": backbone, "proprio": proprio, "head": head}


def _counted[Result](run: Callable[[], Result]) -> tuple[int, Result]:
    with FlopCounterMode(display=False) as counter:
        result = run()
    return counter.get_total_flops(), result


def _part(name: str, part: nn.Module, flops: int | None) -> PartCost:
    parameters = list(part.parameters())
    learning = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    return PartCost(name, sum(parameter.numel() for parameter in parameters), learning, flops)
