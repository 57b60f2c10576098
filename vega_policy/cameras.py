"""The camera pictures of an observation: which, in what order, and as square images for the multimodal LLM.

Nothing is ever cropped. A picture that is not square is stretched to a square for the LLM, while the world
simulator fits it into a square with its proportions kept and gives back only the cells of the picture; so the
token of one stream and the token of the other at the same row and column look at the same part of the scene.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vega_policy.configuration_vega import VegaConfig
from vega_policy.simulators.geometry import resize_frames

Clips = tuple[Float[Tensor, "batch time 3 height width"], ...]
"""One clip per camera, oldest frame first, pixels in [0, 1], upright."""


class Cameras:
    """Reads the configured cameras from LeRobot batches, in their fixed order."""

    def __init__(self, config: VegaConfig) -> None:
        self._names = config.cameras
        self._missing_is_black = config.missing_camera == "black"

    def clips(self, batch: Mapping[str, Any]) -> Clips:
        """The clips of all cameras; pictures without a time axis become clips of one frame.

        Raises:
            ValueError: A camera is missing, or its values are not processed pictures.
        """
        found = {name: _with_time(name, batch[name]) for name in self._names if name in batch}
        missing = [name for name in self._names if name not in found]
        if not found or (missing and not self._missing_is_black):
            seen = ", ".join(sorted(name for name in batch if name.startswith("observation.image"))) or "none"
            raise ValueError(
                f"expected the cameras {', '.join(self._names)}, the observation has {seen}: "
                f"add {', '.join(missing)}, or set policy.missing_camera=black if trained so"
            )
        black = torch.zeros_like(next(iter(found.values())))
        return tuple(found.get(name, black) for name in self._names)


def newest_squares(clips: Clips, size_px: int) -> Float[Tensor, "batch cameras 3 size size"]:
    """The newest frame of every camera, resized to a square."""
    return torch.stack([resize_frames(clip[:, -1], size_px, size_px) for clip in clips], dim=1)


def _with_time(name: str, picture: Tensor) -> Float[Tensor, "batch time 3 height width"]:
    if picture.ndim not in (4, 5) or picture.shape[-3] != 3 or not picture.is_floating_point():
        raise ValueError(
            f"expected {name} as float (batch, 3, height, width) or (batch, time, 3, height, width), got "
            f"{picture.dtype} {tuple(picture.shape)}: run the policy's pre-processor first"
        )
    return picture if picture.ndim == 5 else picture[:, None]
