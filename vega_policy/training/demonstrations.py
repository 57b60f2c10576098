"""Recorded episodes into a LeRobotDataset v3 folder that LeRobot's own tools read.

The films were encoded while recording; here they are only strung together, so nothing is lost and minutes are
saved. The same episodes in the same order give the same dataset. It appears in one step when it is complete.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.datasets.feature_utils import get_hf_features_from_features
from lerobot.datasets.io_utils import write_info, write_stats, write_table_one_row_group_per_episode
from lerobot.datasets.video_utils import concatenate_video_files
from numpy.typing import NDArray

from vega_policy.training.files import give_usual_modes, in_one_step
from vega_policy.training.libero_data import FPS, VECTORS, libero_features, vector_features
from vega_policy.training.statistics import Stats, column_stats, picture_stats

PROVENANCE = Path("meta") / "provenance.json"
CONDITIONS = ("assets", "assets_hash", "protocol", "image_size_px")
"""Entries of the provenance that a policy should be evaluated with as well."""

EPISODES_PER_FILE = 100
"""Of the films and the table: a few tens of MB at 256 x 256 px, below LeRobot's limits for a file."""


@dataclass(frozen=True)
class Demonstration:
    """One episode.

    Attributes:
        task: The instruction.
        columns: Vectors by key, shape (steps, size): state, action, and whatever else there is.
        films: Files by image key, one frame per step.
        histograms: By image key: counts by channel and level over all its pixels.
        facts: Where it comes from; kept in the provenance.
    """

    task: str
    columns: Mapping[str, Float32[NDArray[np.float32], "steps size"]]
    films: Mapping[str, Path]
    histograms: Mapping[str, Int64[NDArray[np.int64], "3 256"]]
    facts: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.columns[next(iter(VECTORS))])


def write_dataset(
    root: Path,
    demonstrations: Sequence[Demonstration],
    image_size_px: int,
    provenance: Mapping[str, Any],
    extra_vectors: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write a dataset, replacing one that this function wrote there before.

    Args:
        root: The dataset's folder.
        demonstrations: At least one, in the order in which they are to stand.
        image_size_px: Height and width of the films.
        provenance: What identifies the data; the episodes' facts are added, and all goes to
            `meta/provenance.json`.
        extra_vectors: Names of the numbers of columns beyond state and action, by key.

    Raises:
        ValueError: If there are no demonstrations.
        FileExistsError: If `root` holds something else.
    """
    if not demonstrations:
        raise ValueError("there is no demonstration to write")
    if root.exists() and not (root / PROVENANCE).exists():
        raise FileExistsError(f"{root} exists and is no dataset of vega-collect; choose another folder")
    features = libero_features(image_size_px) | vector_features(extra_vectors or {})
    episodes = [{"episode_index": index, **item.facts} for index, item in enumerate(demonstrations)]
    text = json.dumps({**provenance, "episodes": episodes}, indent=2)
    with in_one_step(root) as partial:
        _write(partial, root.name, demonstrations, features)
        (partial / PROVENANCE).write_text(text + "\n", encoding="utf-8")
        give_usual_modes(partial)


def read_provenance(root: Path) -> dict[str, Any]:
    """What a dataset says of where it comes from; empty for one from elsewhere.

    Args:
        root: The dataset's folder, if there is one.
    """
    file = root / PROVENANCE
    told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return told


def recorded_conditions(root: Path) -> dict[str, Any]:
    """Under which conditions a dataset was recorded, as far as it tells: assets, protocol, picture size.

    Args:
        root: The dataset's folder.
    """
    environment = read_provenance(root).get("environment", {})
    return {name: environment[name] for name in CONDITIONS if name in environment}


def _write(
    root: Path, name: str, demonstrations: Sequence[Demonstration], features: dict[str, dict[str, Any]]
) -> None:
    meta = LeRobotDatasetMetadata.create(f"local/{name}", FPS, features, robot_type="panda", root=root)
    meta.save_episode_tasks(list(dict.fromkeys(item.task for item in demonstrations)))
    tables = list(_tables(meta, demonstrations))
    numbered = zip(tables, demonstrations, strict=True)
    for file_index, group in enumerate(batched(numbered, EPISODES_PER_FILE)):
        _write_group(meta, file_index, group)
    meta.finalize()
    meta.update_video_info()
    write_info(meta.info, root)
    write_stats(_all_stats(tables, demonstrations), root)


def _write_group(
    meta: LeRobotDatasetMetadata,
    file_index: int,
    group: Sequence[tuple[dict[str, NDArray[Any]], Demonstration]],
) -> None:
    """One file of the table and of each film, and the metadata of its episodes."""
    place = dict(zip(("chunk_index", "file_index"), divmod(file_index, meta.chunks_size), strict=True))
    path = meta.root / meta.data_path.format(**place)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table_one_row_group_per_episode(_arrow(meta, [table for table, _ in group]), path)
    for key in meta.video_keys:
        films = [item.films[key] for _, item in group]
        concatenate_video_files(films, meta.root / str(meta.video_path).format(video_key=key, **place))
    first_frame = 0
    for table, item in group:
        meta.save_episode(
            int(table["episode_index"][0]),
            len(item),
            [item.task],
            _all_stats([table], [item]),
            _whereabouts(meta.video_keys, place, first_frame, len(item)),
        )
        first_frame += len(item)


def _whereabouts(
    video_keys: Iterable[str], place: Mapping[str, int], first_frame: int, num_frames: int
) -> dict[str, Any]:
    """Which files an episode is in, and at which times of the films."""
    found: dict[str, Any] = {f"data/{name}": index for name, index in place.items()}
    for key in video_keys:
        found |= {f"videos/{key}/{name}": index for name, index in place.items()}
        found[f"videos/{key}/from_timestamp"] = first_frame / FPS
        found[f"videos/{key}/to_timestamp"] = (first_frame + num_frames) / FPS
    return found


def _tables(
    meta: LeRobotDatasetMetadata, demonstrations: Sequence[Demonstration]
) -> Iterator[dict[str, NDArray[Any]]]:
    """Each episode's columns, with those that LeRobot adds."""
    first = 0
    for episode_index, item in enumerate(demonstrations):
        frames = np.arange(len(item))
        yield {
            **{key: item.columns[key] for key in item.columns if key in meta.features},
            "timestamp": (frames / FPS).astype(np.float32),
            "frame_index": frames,
            "episode_index": np.full(len(item), episode_index),
            "index": first + frames,
            "task_index": np.full(len(item), meta.get_task_index(item.task)),
        }
        first += len(item)


def _arrow(meta: LeRobotDatasetMetadata, tables: Sequence[Mapping[str, NDArray[Any]]]) -> Any:
    import datasets

    features = get_hf_features_from_features(meta.features)
    columns = {key: np.concatenate([table[key] for table in tables]) for key in features}
    return datasets.Dataset.from_dict(columns, features=features).with_format("arrow")[:]


def _all_stats(
    tables: Sequence[Mapping[str, NDArray[Any]]], demonstrations: Sequence[Demonstration]
) -> dict[str, Stats]:
    """Exact statistics of all columns and pictures of some episodes."""
    num_frames = sum(map(len, demonstrations))
    stats = {key: column_stats(np.concatenate([table[key] for table in tables])) for key in tables[0]}
    for key in demonstrations[0].histograms:
        histogram = sum(item.histograms[key] for item in demonstrations)
        stats[key] = picture_stats(np.asarray(histogram), num_frames)
    return stats
