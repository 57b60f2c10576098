"""The interface between simulators and the policy: square frames go in, a grid of tokens comes out.

`Simulator` is the one frozen module that the policy holds; a `Backbone` inside it does the reading. Two
things surprise. A simulator stays in evaluation mode and without gradients whatever a trainer does; and
`.to(dtype)` moves it without casting it, since its precision is part of its configuration.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vega_policy.simulators.config import SimulatorConfig
from vega_policy.simulators.geometry import Window, letterbox, resize_grid
from vega_policy.simulators.graphs import GraphCache


@dataclass(frozen=True)
class TokenGrid:
    """Tokens on the image plane, in raster order; row 0 is the top of the upright image.

    Attributes:
        values: One vector per cell; all cells together cover the whole camera picture.
    """

    values: Float[Tensor, "batch rows cols dim"]

    def resized(self, rows: int, cols: int) -> TokenGrid:
        """The same picture on another grid: the mean of whole cells where they divide, else resampled.

        Args:
            rows: Rows wanted.
            cols: Columns wanted.
        """
        return TokenGrid(resize_grid(self.values, rows, cols))

    def cropped(self, window: Window) -> TokenGrid:
        """Only the cells inside `window`, given in cells."""
        return TokenGrid(self.values[:, window.top : window.bottom, window.left : window.right])

    def flatten(self) -> Float[Tensor, "batch tokens dim"]:
        """The cells as a sequence, row by row."""
        return self.values.flatten(1, 2)


class Backbone(nn.Module, ABC):
    """A network that reads square clips. An autoencoder in front of it is its child `encoder`.

    Attributes:
        dim: Width of a token.
        token_px: Side of the square of pixels that one token stands for.
    """

    dim: int
    token_px: int

    @abstractmethod
    def forward(
        self, canvas: Float[Tensor, "batch time 3 side side"]
    ) -> Float[Tensor, "batch rows cols dim"]:
        """Tokens of the newest frame (having seen the older ones), for pixels in [0, 1]."""

    def check_clip_length(self, frames: int) -> None:
        """Raises ValueError where a clip of so many frames cannot be read."""

    def prepare(self) -> None:
        """Recomputes what depends on the weights alone; called whenever the weights have changed."""


class Simulator(nn.Module):
    """A frozen Latent World Simulator.

    Attributes:
        backbone: The network that is read.
        dim: Width of a token.
        image_size_px: Side of the square canvas that a picture is fitted into.
        clip_length: Longest clip in frames.
        portable_config: Builds the same simulator for a checkpoint that holds its weights.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        portable_config: SimulatorConfig,
        image_size_px: int,
        clip_length: int = 1,
        cuda_graph: bool = False,
    ) -> None:
        super().__init__()
        if image_size_px % backbone.token_px:
            raise ValueError(
                f"expected image_size_px to be a multiple of {backbone.token_px} (one token), "
                f"got {image_size_px}"
            )
        self.backbone = backbone
        self.dim = backbone.dim
        self.image_size_px = image_size_px
        self.clip_length = clip_length
        self.portable_config = portable_config
        self._graphs = GraphCache() if cuda_graph else None
        self.register_load_state_dict_post_hook(_prepare_loaded)
        self.requires_grad_(False)
        self.eval()
        self.prepare()

    @torch.no_grad()
    def forward(self, clips: Float[Tensor, "batch time 3 height width"]) -> TokenGrid:
        """The tokens of the newest frame of each clip.

        Args:
            clips: Pixels in [0, 1], upright, oldest frame first. A camera that is not square is fitted into
                the square canvas and only its own cells are returned.

        Returns:
            A grid over the whole camera picture, with `image_size_px / token_px` cells along its longer side.

        Raises:
            TypeError: The pixels are not floating point.
            ValueError: The shape is not a clip, or too long a one.
        """
        self._check(clips)
        canvas, window = letterbox(clips, self.image_size_px, self.backbone.token_px)
        with without_autocast(clips.device):
            return TokenGrid(self.run(canvas)).cropped(window)

    def run(self, canvas: Float[Tensor, "batch time 3 side side"]) -> Float[Tensor, "batch rows cols dim"]:
        """The backbone on square pixels in [0, 1], by CUDA graph where that is configured."""
        if self._graphs is not None and canvas.is_cuda:
            return self._graphs.run(self.backbone, canvas)
        return self.backbone(canvas)

    @torch.no_grad()
    def prepare(self) -> None:
        """Recomputes what depends on the weights alone; loading a state dict does it by itself."""
        self.backbone.prepare()
        if self._graphs is not None:
            self._graphs.clear()

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002 (the signature is torch's)
        """Stays in evaluation mode: a frozen network has none other."""
        return super().train(False)

    def _check(self, clips: Tensor) -> None:
        if not clips.is_floating_point():
            raise TypeError(
                f"expected floating-point pixels in [0, 1], got {clips.dtype}: divide uint8 by 255"
            )
        if clips.ndim != 5 or clips.shape[2] != 3:
            raise ValueError(
                f"expected clips of shape (batch, time, 3, height, width), got {tuple(clips.shape)}"
            )
        if clips.shape[1] > self.clip_length:
            raise ValueError(
                f"expected clips of at most {self.clip_length} frames, got {clips.shape[1]}: "
                "raise clip_length"
            )
        self.backbone.check_clip_length(clips.shape[1])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the tensors as `fn` does, but never casts them."""

        def keep_dtype(tensor: Tensor) -> Tensor:
            probe = fn(tensor.new_empty(0))
            return fn(tensor) if probe.dtype == tensor.dtype else tensor.to(probe.device)

        if self._graphs is not None:
            self._graphs.clear()
        return super()._apply(keep_dtype, recurse)

    def extra_repr(self) -> str:
        """Shown by `print(simulator)`."""
        return f"dim={self.dim}, image_size_px={self.image_size_px}, clip_length={self.clip_length}"


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """A region in which a trainer's autocast does not reach: a simulator has its own precision."""
    known = torch.amp.autocast_mode.is_autocast_available(device.type)  # the meta device has none
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


def _prepare_loaded(simulator: Simulator, _incompatible_keys: object) -> None:
    simulator.prepare()
