"""Quantiles are those of all frames, not a mean of per-episode ones."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from vega_policy.quantiles import dataset_quantiles


def write_frames(root: Path, files: list[np.ndarray]) -> None:
    for index, frames in enumerate(files):
        path = root / "data" / f"chunk-{index:03d}" / "file-000.parquet"
        path.parent.mkdir(parents=True)
        parquet.write_table(pa.table({"action": list(frames.astype(np.float32))}), path)


def test_all_frames_count_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    short, long = rng.normal(0, 1, (50, 2)), rng.normal(5, 1, (5000, 2))
    write_frames(tmp_path, [short, long])
    found = dataset_quantiles(tmp_path, "action")
    everything = np.concatenate([short, long])
    np.testing.assert_allclose(found["q01"], np.quantile(everything, 0.01, axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["q99"], np.quantile(everything, 0.99, axis=0), rtol=1e-4, atol=1e-4)
    mean_of_episodes = np.mean([np.quantile(part, 0.01, axis=0) for part in (short, long)], axis=0)
    assert np.abs(found["q01"] - mean_of_episodes).min() > 1


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is the dataset downloaded"):
        dataset_quantiles(tmp_path, "action")
    write_frames(tmp_path, [np.zeros((3, 2))])
    with pytest.raises(KeyError, match="it has: action"):
        dataset_quantiles(tmp_path, "observation.state")
