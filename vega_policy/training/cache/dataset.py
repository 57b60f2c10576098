"""A LeRobot dataset whose pictures and features come from memory maps; the samples are the same otherwise.

Reading a sample through LeRobot decodes films and formats a table row, tens of milliseconds; here it is a few
copies. Image transforms of the dataset are refused: the features would not follow them, as they do `shifted`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, default_collate

from vega_policy.features import SIMULATED
from vega_policy.training.cache.contents import ensure_features, ensure_pictures
from vega_policy.training.cache.shift import shifted
from vega_policy.training.cache.store import ArrayStore
from vega_policy.training.libero_data import check_films

if TYPE_CHECKING:
    from vega_policy.modeling_vega import VegaPolicy


@dataclass
class CacheConfig:
    """Pictures and features, computed once and kept."""

    enabled: bool = False  # read through the cache
    root: Path = Path("outputs/cache")  # one folder for each array
    features: bool = True  # keep the simulator's features too, not only pictures
    dtype: str = "float16"  # of stored features; rounds to 11 bits
    shift_px: int = 0  # train on pictures moved by up to so many pixels, each sample's always alike

    def __post_init__(self) -> None:
        if self.shift_px < 0:
            raise ValueError(f"expected --cache.shift_px of at least 0, got {self.shift_px}")
        if self.shift_px and not self.enabled:
            raise ValueError(
                "cache.shift_px moves cached pictures: set cache.enabled=true, or use image_transforms"
            )
        if self.dtype not in ("float16", "float32"):
            raise ValueError(f"expected cache.dtype float16 or float32, got {self.dtype!r}")


class CachedDataset(Dataset[dict[str, Any]]):
    """The samples of a LeRobot dataset by position, as the dataset itself would give them.

    Args:
        dataset: A LeRobotDataset that is on disk, with or without a choice of episodes.
        root: Where caches are kept.
        shift_px: How far a sample's pictures are moved at most, before anything sees them.
        num_workers: Processes that fill the cache; 0 fills it in this one.

    Raises:
        ValueError: If the dataset transforms its images, or its pictures are not films.
    """

    def __init__(self, dataset: Any, root: Path, shift_px: int = 0, num_workers: int = 0) -> None:
        if dataset.image_transforms is not None:
            raise ValueError(
                "dataset.image_transforms change pictures in every epoch, cached features cannot follow: "
                "set cache.enabled=false, or cache.shift_px instead of dataset.image_transforms.enable"
            )
        self._shift_px, self._num_workers = shift_px, num_workers
        check_films(dataset.meta)
        self._meta = dataset.meta
        self._deltas: Mapping[str, list[int]] = dataset.reader.delta_indices or {}
        self._columns, self._texts = _columns(dataset)
        self._features: ArrayStore | None = None
        self._maps: dict[str, NDArray[Any]] = {}
        bounds = (self._meta.episodes["dataset_from_index"], self._meta.episodes["dataset_to_index"])
        self._starts, self._ends = (np.asarray(bound) for bound in bounds)
        frames = self._columns["index"].numpy()
        self._position = {int(frame): position for position, frame in enumerate(frames)}
        self._pictures = {
            key: ensure_pictures(root, dataset, key, frames, num_workers) for key in dataset.meta.video_keys
        }

    def add_features(self, dataset: Any, root: Path, policy: "VegaPolicy", dtype: str) -> None:
        """Keep the simulator's features of every sample, and give them with it."""
        moved = {"shift_px": self._shift_px} if self._shift_px else {}
        self._features = ensure_features(
            root, dataset, policy, self._batch, len(self), dtype, moved, self._num_workers
        )

    def __len__(self) -> int:
        return len(self._columns["index"])

    def __getitem__(self, position: int) -> dict[str, Any]:
        """One sample, with LeRobot's keys; pictures are uint8."""
        sample: dict[str, Any] = {key: column[position] for key, column in self._columns.items()}
        frame, episode = int(sample["index"]), int(sample["episode_index"])
        windows = {key: self._window(frame, episode, deltas) for key, deltas in self._deltas.items()}
        for key, (positions, is_pad) in windows.items():
            sample[f"{key}_is_pad"] = torch.from_numpy(is_pad)
            if key in self._columns:
                sample[key] = self._columns[key][positions]
        for camera, key in enumerate(self._pictures):
            wanted = windows[key][0] if key in windows else position
            pictures = shifted(self._map(key)[wanted], frame, camera, self._shift_px)
            sample[key] = torch.from_numpy(np.array(pictures))
        if self._features is not None:
            sample[SIMULATED] = torch.from_numpy(np.array(self._map(SIMULATED)[position]))
        return {**sample, "task": self._texts[int(sample["task_index"])]}

    def _window(self, frame: int, episode: int, deltas: list[int]) -> tuple[list[int], NDArray[np.bool_]]:
        """Positions of a window's frames, held at the episode's ends, and which of them were held."""
        wanted = frame + np.asarray(deltas)
        start, end = self._starts[episode], self._ends[episode]
        frames = np.clip(wanted, start, end - 1)
        return [self._position[int(frame)] for frame in frames], (wanted < start) | (wanted >= end)

    def _map(self, key: str) -> NDArray[Any]:
        """The open array; each process that loads data opens its own."""
        if key not in self._maps:
            store = self._features if key == SIMULATED else self._pictures[key]
            assert store is not None
            self._maps[key] = store.open()
        return self._maps[key]

    def _batch(self, first: int, last: int) -> Mapping[str, Any]:
        batch: Mapping[str, Any] = default_collate([self[position] for position in range(first, last)])
        return batch

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}


def _columns(dataset: Any) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The table's columns as tensors, and the instructions by number."""
    table = dataset.hf_dataset.with_format("numpy")
    columns = {key: torch.from_numpy(np.stack(table[key][:])) for key in table.column_names}
    return columns, list(dataset.meta.tasks.index)
