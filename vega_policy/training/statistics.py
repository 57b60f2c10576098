"""Statistics over every frame of a dataset, under the names and in the shapes of LeRobot's `stats.json`.

LeRobot 0.4 to 0.6.1 averages the quantiles of episodes, which gives no quantile of the dataset; and it looks
at a sample of the pictures. Here quantiles are exact, and those of pictures follow from a histogram.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int64, Shaped
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
"""LeRobot's."""

Stats = dict[str, NDArray[np.floating] | NDArray[np.int64]]


def column_stats(values: Shaped[NDArray[np.generic], " frames *size"]) -> Stats:
    """Statistics of a column of numbers, each of shape (size,), (1,) for a column of scalars."""
    frames = values.reshape(len(values), -1).astype(np.float64)
    quantiles = np.quantile(frames, list(QUANTILES.values()), axis=0)
    return {
        "min": frames.min(axis=0),
        "max": frames.max(axis=0),
        "mean": frames.mean(axis=0),
        "std": frames.std(axis=0),
        "count": np.array([len(frames)]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def picture_stats(histogram: Int64[NDArray[np.int64], "3 256"], num_frames: int) -> Stats:
    """Statistics of pictures in [0, 1], each of shape (3, 1, 1), from how often each level occurs.

    Args:
        histogram: Counts by channel and level.
        num_frames: Frames counted.
    """
    levels = np.arange(histogram.shape[1]) / (histogram.shape[1] - 1)
    shares = histogram / histogram.sum(axis=1, keepdims=True)
    mean = shares @ levels
    cumulated = shares.cumsum(axis=1)

    def quantile(share: float) -> NDArray[np.float64]:
        """The lowest level that at least this share of the pixels does not exceed."""
        return levels[np.argmax(cumulated >= share - 1e-12, axis=1)]

    found: Mapping[str, NDArray[np.float64]] = {
        "min": levels[np.argmax(histogram > 0, axis=1)],
        "max": levels[::-1][np.argmax(histogram[:, ::-1] > 0, axis=1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0.0)),
        **{name: quantile(share) for name, share in QUANTILES.items()},
    }
    return {
        **{name: value.reshape(3, 1, 1) for name, value in found.items()},
        "count": np.array([num_frames]),
    }
