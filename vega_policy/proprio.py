"""Proprioception as one token of the backbone's sequence.

Parameter names are those of OpenVLA-OFT's published `proprio_projector--*_checkpoint.pt`. The state has to
come normalised with the same statistics as in training: it carries no scale of its own.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ProprioProjector(nn.Module):
    """Linear, erf GELU, Linear: a normalised state vector becomes a token as wide as the backbone's.

    Args:
        state_dim: Numbers in a state.
        hidden_dim: Width of the token.
        num_octaves: How many sines and cosines of each number are seen beside it, with periods of 2, 1, 1/2,
            ... (as of NeRF's coordinates, arXiv 2003.08934): where tables of many heights share one scale, a
            centimetre is next to nothing in the number itself. Their weights begin at zero, so that a trained
            projection can be given some and acts as before.
    """

    def __init__(self, state_dim: int, hidden_dim: int, num_octaves: int = 0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(state_dim, hidden_dim)
        self.act_fn1 = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, hidden_dim)
        self.octaves = Octaves(state_dim, hidden_dim, num_octaves) if num_octaves else None

    def forward(self, state: Float[Tensor, "batch state_dim"]) -> Float[Tensor, "batch 1 dim"]:
        """One token per sample, in the dtype of the weights.

        Raises:
            ValueError: if the state has another length than the one trained with.
        """
        if state.shape[-1] != self.fc1.in_features:
            raise ValueError(
                f"expected a state of {self.fc1.in_features} numbers, got {state.shape[-1]}: check "
                "the dataset's observation.state against the configuration"
            )
        felt = self.fc1(state.to(self.fc1.weight.dtype))
        if self.octaves is not None:
            felt = felt + self.octaves(state)
        return self.fc2(self.act_fn1(felt))[:, None]


class Octaves(nn.Module):
    """A linear function of the sines and cosines of a state, zero to begin with."""

    frequencies: Float[Tensor, " octaves"]

    def __init__(self, state_dim: int, hidden_dim: int, num_octaves: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(num_octaves), persistent=False)
        self.linear = nn.Linear(2 * num_octaves * state_dim, hidden_dim, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(self, state: Float[Tensor, "batch state_dim"]) -> Float[Tensor, "batch dim"]:
        """What is added to the projection's hidden layer."""
        phases = (state[..., None] * self.frequencies).flatten(-2)
        waves = torch.cat([phases.sin(), phases.cos()], dim=-1)
        return self.linear(waves.to(self.linear.weight.dtype))
