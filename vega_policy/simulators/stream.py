"""A stream of camera frames, encoded as they come: constant work and memory however long the episode.

The autoencoder is causal, so frame after frame it needs only the last frames of each of its layers. Latents
appear for the first frame and then for every fourth; they equal those of encoding the whole episode at
once. The transformer reads the newest few of them.
"""

from collections import deque

import torch
from jaxtyping import Float
from torch import Tensor

from vega_policy.simulators.base import Simulator, TokenGrid, without_autocast
from vega_policy.simulators.geometry import Window, letterbox
from vega_policy.simulators.wan import WanBackbone
from vega_policy.simulators.wan_vae import CHUNK_FRAMES, Cache, latent_frames


class FrameStream:
    """Frames go in one by one; tokens of the newest latent can be read at any time.

    Until the stream is longer than the simulator's clip length, reading equals running the simulator on
    the clip so far. After that the oldest latents have seen frames from before the window, which a clip cut
    out of an episode has not: train on streams what will run on streams.

    Args:
        simulator: A `wan` simulator; it keeps `clip_length` frames in view. Several streams may share it.

    Raises:
        TypeError: Another simulator, which has no causal encoder.
    """

    def __init__(self, simulator: Simulator) -> None:
        if not isinstance(simulator.backbone, WanBackbone):
            raise TypeError(f"expected a wan simulator, got {type(simulator.backbone).__name__}")
        self._simulator = simulator
        self._backbone = simulator.backbone
        self.reset()

    def reset(self) -> None:
        """Begins a new episode."""
        self._cache: Cache = self._backbone.encoder.new_cache()
        self._pending: list[Tensor] = []
        self._latents: deque[Tensor] = deque(maxlen=latent_frames(self._simulator.clip_length))
        self._window: Window | None = None

    @property
    def num_pending(self) -> int:
        """Frames, 0 to 3, that came after the newest latent; they show once their chunk is full."""
        return len(self._pending)

    @torch.no_grad()
    def push(self, frames: Float[Tensor, "batch 3 height width"]) -> bool:
        """Takes the next frame of every camera of the batch.

        Args:
            frames: Pixels in [0, 1], upright.

        Returns:
            Whether a latent was completed: at the first frame and at every fourth after it.
        """
        canvas, self._window = letterbox(
            frames.unsqueeze(1), self._simulator.image_size_px, self._backbone.token_px
        )
        self._pending.append(canvas)
        if self._latents and len(self._pending) < CHUNK_FRAMES:
            return False
        chunk = torch.cat(self._pending, dim=1)
        self._pending.clear()
        with without_autocast(chunk.device):
            self._latents.append(self._backbone.encoder.encode_chunk(chunk, self._cache))
        return True

    @property
    def latents(self) -> Float[Tensor, "batch channels latent_time rows cols"]:
        """The newest normalised latents, oldest first: as many as a clip of the simulator's length has.

        Raises:
            RuntimeError: No frame has come.
        """
        if not self._latents:
            raise RuntimeError("expected at least one frame before reading: push the episode's first frame")
        return torch.cat(list(self._latents), dim=2)

    @torch.no_grad()
    def read(self) -> TokenGrid:
        """The tokens of the newest latent, having attended to the older ones in view.

        Raises:
            RuntimeError: No frame has come.
        """
        latents = self.latents
        assert self._window is not None
        with without_autocast(latents.device):
            return TokenGrid(self._backbone.read(latents)).cropped(self._window)
