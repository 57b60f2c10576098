"""Statistics over all frames, against NumPy on the frames themselves."""

import numpy as np
import pytest

from vega_policy.training.statistics import QUANTILES, column_stats, picture_stats


def test_columns() -> None:
    frames = np.random.default_rng(0).gamma(2.0, size=(1000, 3)).astype(np.float32)
    stats = column_stats(frames)
    assert stats["count"] == [1000]
    for name, share in QUANTILES.items():
        assert np.allclose(stats[name], np.quantile(frames, share, axis=0))
    for name in ("min", "max", "mean", "std"):
        assert np.allclose(stats[name], getattr(frames, name)(axis=0), atol=1e-5)
    assert column_stats(np.arange(5))["max"].shape == (1,)


def test_quantiles_are_not_the_mean_of_the_episodes() -> None:
    low, high = np.zeros((100, 1)), np.ones((100, 1))
    mean_of_episodes = (column_stats(low)["q99"] + column_stats(high)["q99"]) / 2
    assert mean_of_episodes == 0.5
    assert column_stats(np.concatenate([low, high]))["q99"] == 1.0


@pytest.mark.parametrize("darkest", [0, 37])
def test_pictures(darkest: int) -> None:
    pixels = np.random.default_rng(1).integers(darkest, 250, (6, 10, 10, 3), np.uint8)
    histogram = np.stack([np.bincount(pixels[..., channel].ravel(), minlength=256) for channel in range(3)])
    stats = picture_stats(histogram, 6)
    scaled = pixels.reshape(-1, 3) / 255
    assert stats["count"] == [6]
    for name in ("min", "max", "mean", "std"):
        assert np.allclose(stats[name].ravel(), getattr(scaled, name)(axis=0))
        assert stats[name].shape == (3, 1, 1)
    for name, share in QUANTILES.items():
        expected = np.quantile(scaled, share, axis=0, method="inverted_cdf")
        assert np.allclose(stats[name].ravel(), expected)
