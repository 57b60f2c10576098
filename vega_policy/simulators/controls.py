"""Controls: what the policy sees in place of real features, to learn what the features are worth.

`noise` and `random_init` are settings of a backbone. The two here replace its output: `zeros`, and
`shuffled`, which gives each picture the features of another one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vega_policy.simulators.base import Backbone, Simulator
from vega_policy.simulators.config import SimulatorConfig
from vega_policy.simulators.loading import PartLoader

BANK_SIZE = 16
"""Clips that `shuffled` keeps to draw other pictures from."""


class Zeros(Backbone):
    """Zeros of a backbone's shape, at none of its cost."""

    def __init__(self, dim: int, token_px: int) -> None:
        super().__init__()
        self.dim, self.token_px = dim, token_px

    def forward(
        self, canvas: Float[Tensor, "batch time 3 side side"]
    ) -> Float[Tensor, "batch rows cols dim"]:
        """Zeros."""
        side = canvas.shape[-1] // self.token_px
        return canvas.new_zeros(len(canvas), side, side, self.dim)


def zeros_like(config: SimulatorConfig, build: Callable[[PartLoader], Backbone]) -> Zeros:
    """Zeros of the shape of the configured backbone, which is described but never allocated."""
    with torch.device("meta"):
        shape = build(PartLoader(config, load_weights=False))
    return Zeros(shape.dim, shape.token_px)


class ShuffledSimulator(Simulator):
    """Gives every clip the features of another clip, out of a small bank.

    The bank fills itself from the first different clips seen, which in training are the dataset's, and is
    saved with the policy. Once it is full, which clip stands in depends on the input's pixels alone, never
    on the batch around it or on what came before: equal input has equal output here too.

    Attributes:
        bank: Canvases as bytes; the first `num_banked` are set.
        num_banked: How many clips the bank holds.
    """

    bank: UInt8[Tensor, "clips time 3 side side"]
    num_banked: Int[Tensor, ""]

    def __init__(
        self,
        backbone: Backbone,
        *,
        portable_config: SimulatorConfig,
        image_size_px: int,
        clip_length: int = 1,
        cuda_graph: bool = False,
    ) -> None:
        super().__init__(
            backbone,
            portable_config=portable_config,
            image_size_px=image_size_px,
            clip_length=clip_length,
            cuda_graph=cuda_graph,
        )
        side = image_size_px
        bank = torch.zeros(BANK_SIZE, clip_length, 3, side, side, dtype=torch.uint8)
        self.register_buffer("bank", bank)
        self.register_buffer("num_banked", torch.tensor(0))

    def run(self, canvas: Float[Tensor, "batch time 3 side side"]) -> Float[Tensor, "batch rows cols dim"]:
        """The features of banked clips of the same length.

        Raises:
            RuntimeError: The bank holds fewer than two clips.
        """
        pixels = _to_bytes(canvas)
        self.remember(pixels)
        if self.num_banked < 2:
            raise RuntimeError(
                f"expected at least 2 banked clips to shuffle, got {int(self.num_banked)}: show it two "
                "different clips first, or load a checkpoint that was trained with control=shuffled"
            )
        return super().run(self._others(pixels).to(canvas.dtype) / 255.0)

    def remember(self, pixels: UInt8[Tensor, "batch time 3 side side"]) -> None:
        """Adds full-length clips that differ from those in the bank, while it has room."""
        for clip in pixels if pixels.shape[1] == self.bank.shape[1] else ():
            count = int(self.num_banked)
            if count == len(self.bank):
                return
            if not (self.bank[:count] == clip).flatten(1).all(dim=1).any():
                self.bank[count] = clip
                self.num_banked += 1

    def _others(
        self, pixels: UInt8[Tensor, "batch time 3 side side"]
    ) -> UInt8[Tensor, "batch time 3 side side"]:
        bank = self.bank[: int(self.num_banked), -pixels.shape[1] :]
        index = pixels.flatten(1).sum(dim=1, dtype=torch.int64) % len(bank)
        same = (bank[index] == pixels).flatten(1).all(dim=1)
        return bank[(index + same) % len(bank)]


def _to_bytes(canvas: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    return (canvas * 255.0).round().clamp(0, 255).to(torch.uint8)
