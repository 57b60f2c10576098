"""An augmentation that cached features can follow: a sample's pictures are moved a few pixels, always alike.

Where a sample's pictures go depends on its frame and camera alone, so what the simulator makes of them can be
computed once. Neighbouring frames look alike and go different ways: one pass over the data shows each scene
in many places.
"""

from functools import cache

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

Pictures = UInt8[NDArray[np.uint8], "*clip 3 height width"]


def shifted(pictures: Pictures, frame: int, camera: int, most_px: int) -> Pictures:
    """All pictures of one sample and camera, moved together; what comes in at the edge repeats the edge.

    Args:
        pictures: A picture, or a clip of them.
        frame: The sample's number in the whole dataset.
        camera: The camera's number; each goes its own way.
        most_px: The farthest move along each axis; 0 moves nothing.
    """
    if most_px == 0:
        return pictures
    down, right = np.random.default_rng([frame, camera]).integers(-most_px, most_px + 1, 2)
    rows, columns = (
        _sources(size, int(by)) for size, by in zip(pictures.shape[-2:], (down, right), strict=True)
    )
    return pictures[..., rows[:, None], columns]


@cache
def _sources(size: int, by: int) -> NDArray[np.int64]:
    """From where each row (or column) comes."""
    return np.clip(np.arange(size) - by, 0, size - 1)
