"""Quantiles over every frame of a dataset, for normalising states and actions to [-1, 1].

LeRobot's `meta/stats.json` holds the frame-weighted mean of per-episode quantiles (0.4 to 0.6.1), which is
not a quantile of the dataset, and its meaning changes between versions. These read all frames instead.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

LOW, HIGH = 0.01, 0.99
"""The 1st and 99th percentile, as OpenVLA's BOUNDS_Q99 normalisation takes them (arXiv 2406.09246)."""


def dataset_quantiles(root: Path, key: str) -> dict[str, Float[np.ndarray, " dim"]]:
    """The quantiles `q01` and `q99` of one column, as `read_column` reads it."""
    low, high = np.quantile(read_column(root, key), [LOW, HIGH], axis=0)
    return {"q01": low.astype(np.float32), "q99": high.astype(np.float32)}


def read_column(root: Path, key: str) -> Shaped[np.ndarray, " frames *size"]:
    """One column over all frames of a LeRobotDataset v3 folder.

    Args:
        root: The dataset's folder.
        key: A column such as `action` or `timestamp`.

    Raises:
        FileNotFoundError: The folder holds no frame files.
        KeyError: The frames have no such column.
    """
    import pyarrow.parquet as parquet

    files = sorted((root / "data").glob("**/*.parquet"))
    if not files:
        raise FileNotFoundError(
            f"expected frames under {root / 'data'}, found none: is the dataset downloaded?"
        )
    known = parquet.read_schema(files[0]).names
    if key not in known:
        raise KeyError(f"expected a column {key!r} in {root}, it has: {', '.join(known)}")
    tables = (parquet.read_table(file, columns=[key]) for file in files)
    return np.concatenate([np.stack(table.column(0).to_numpy()) for table in tables])
