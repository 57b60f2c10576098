"""The network of the flow head: a small transformer over the steps of one noisy chunk.

Each control step is one token: its noisy action plus the backbone's features for that step. The time enters
through adaptive layer norms whose output layers start at zero, so every block starts as the identity
(adaLN-Zero, Peebles & Xie 2023). The backbone's slots already attended to each other and to the whole
observation, so the tokens here attend only to one another.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention, silu

TIME_FREQUENCIES = 128
LONGEST_PERIOD = 4.0  # time is in [0, 1]; the slowest wave must be monotonic over it
SHORTEST_PERIOD = 4e-3  # as in openpi's flow-matching policies


class Modulation(NamedTuple):
    """Shift and scale of a normalised input and the gate of what comes out."""

    shift: Float[Tensor, "batch 1 width"]
    scale: Float[Tensor, "batch 1 width"]
    gate: Float[Tensor, "batch 1 width"]

    def enter(self, x: Float[Tensor, "batch chunk width"]) -> Float[Tensor, "batch chunk width"]:
        """Normalises, scales and shifts `x`."""
        return layer_norm(x, x.shape[-1:]) * (1 + self.scale) + self.shift


class TimeEmbedding(nn.Module):
    """Sine features of the flow time, through a small MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wave_in = nn.Linear(2 * TIME_FREQUENCIES, width)
        self.out = nn.Linear(width, width)

    def forward(self, time: Float[Tensor, " batch"]) -> Float[Tensor, "batch width"]:
        """`time` is 1 at noise and 0 at actions."""
        fractions = torch.linspace(0, 1, TIME_FREQUENCIES, device=time.device)
        periods = SHORTEST_PERIOD * (LONGEST_PERIOD / SHORTEST_PERIOD) ** fractions
        phases = 2 * math.pi * time[:, None].float() / periods
        features = torch.cat([phases.sin(), phases.cos()], dim=-1)
        return self.out(silu(self.wave_in(features.to(self.out.weight.dtype))))


class Block(nn.Module):
    """Attention over the steps and an MLP, both modulated by the time."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.modulate = nn.Linear(width, 6 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(
        self, x: Float[Tensor, "batch chunk width"], time: Float[Tensor, "batch width"]
    ) -> Float[Tensor, "batch chunk width"]:
        """`time` is the embedded time, one vector per sample."""
        parts = self.modulate(silu(time))[:, None].chunk(6, dim=-1)
        attend, transform = Modulation(*parts[:3]), Modulation(*parts[3:])
        x = x + attend.gate * self.attention(attend.enter(x))
        return x + transform.gate * self.mlp(transform.enter(x))

    def attention(self, x: Float[Tensor, "batch chunk width"]) -> Float[Tensor, "batch chunk width"]:
        """Every step attends to every step."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(dim=2)
        mixed = scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        )
        return self.attention_out(mixed.transpose(1, 2).flatten(2))


class VelocityNetwork(nn.Module):
    """Predicts the velocity of a noisy chunk given the time and one feature vector per step.

    The output layer starts at zero: the untrained network predicts velocity 0.
    """

    def __init__(
        self,
        action_dim: int,
        condition_dim: int,
        chunk_length: int,
        width: int,
        num_blocks: int,
        num_heads: int,
    ) -> None:
        super().__init__()
        self.action_in = nn.Linear(action_dim, width)
        self.condition_in = nn.Sequential(nn.LayerNorm(condition_dim), nn.Linear(condition_dim, width))
        self.position = nn.Parameter(torch.randn(chunk_length, width) * 0.02)
        self.time_in = TimeEmbedding(width)
        self.blocks = nn.ModuleList(Block(width, num_heads) for _ in range(num_blocks))
        self.norm_out = nn.LayerNorm(width)
        self.velocity_out = nn.Linear(width, action_dim)
        nn.init.zeros_(self.velocity_out.weight)
        nn.init.zeros_(self.velocity_out.bias)

    def forward(
        self,
        noisy: Float[Tensor, "batch chunk action_dim"],
        time: Float[Tensor, " batch"],
        condition: Float[Tensor, "batch chunk condition_dim"],
    ) -> Float[Tensor, "batch chunk action_dim"]:
        """The velocity in float32, whatever dtype the weights have."""
        x = (
            self.action_in(noisy.to(self.action_in.weight.dtype))
            + self.condition_in(condition)
            + self.position
        )
        time_embedding = self.time_in(time)
        for block in self.blocks:
            x = block(x, time_embedding)
        return self.velocity_out(self.norm_out(x)).float()
