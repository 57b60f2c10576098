"""What is cached of a dataset, and all that it depends on.

Pictures are the dataset's own, decoded. Features are the frozen simulator's tokens on the MLLM's grid, for
the clip that ends at each frame: what the policy would compute in every step of training, once.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import draccus
import numpy as np
import torch
from numpy.typing import NDArray

from vega_policy.training.cache.store import ArrayStore

if TYPE_CHECKING:
    from vega_policy.modeling_vega import VegaPolicy

FORMAT = 1
"""Raised when code changes what these arrays hold."""

NO_EFFECT = ("prompt_path", "compile", "cuda_graph", "source", "revision")
"""Of the simulator's configuration: where weights come from, whose values count, and how they are run."""

FEATURE_BATCH, FEATURE_BATCH_GPU = 16, 256  # measured on a CPU; on an H200 nothing else was tried
SPREAD = 16

Batches = Callable[[int, int], Mapping[str, Any]]
"""The collated samples from a first to before a last."""


def ensure_pictures(
    root: Path, dataset: Any, camera: str, frames: NDArray[np.int64], num_workers: int = 0
) -> ArrayStore:
    """The pictures of one camera for every sample of a dataset, uint8, (samples, 3, height, width).

    Args:
        root: Where caches are kept.
        dataset: The LeRobot dataset.
        camera: The key of its pictures.
        frames: Each sample's number in the whole dataset, of which not all episodes may have been chosen.
        num_workers: Processes that decode side by side; 0 decodes in this one.

    Raises:
        ValueError: If the films do not have the dataset's frames.
    """
    height, width, channels = dataset.meta.features[camera]["shape"]
    key = {"format": FORMAT, "data": fingerprint(Path(dataset.root)), "camera": camera}
    if dataset.episodes is not None:
        key["episodes"] = dataset.episodes
    name = f"pictures-{camera.rsplit('.', 1)[-1]}"
    store = ArrayStore(root, name, key, len(frames), (channels, height, width), np.uint8)
    store.ensure(lambda first, last: _decode(dataset, camera, frames[first:last]), num_workers=num_workers)
    return store


def ensure_features(
    root: Path,
    dataset: Any,
    policy: "VegaPolicy",
    batches: Batches,
    num_rows: int,
    dtype: str,
    changes: Mapping[str, Any],
    num_workers: int = 0,
) -> ArrayStore:
    """The simulator's tokens for every sample of a dataset, (samples, cameras, tokens, dim).

    Args:
        root: Where caches are kept.
        dataset: The LeRobot dataset.
        policy: Whose simulator; its weights are part of the key.
        batches: The samples with their pictures.
        num_rows: Number of samples.
        dtype: `float16` or `float32`, of what is stored.
        changes: What was done to the dataset's pictures, part of the key.
        num_workers: Processes that read pictures for the one that simulates; 0 reads in this one.

    Raises:
        ValueError: If the values do not fit `dtype`.
    """
    # Over the whole dataset: the control `shuffled` banks the first pictures that it sees.
    spread = np.linspace(0, num_rows - 1, min(num_rows, SPREAD)).astype(int)
    first = _joined([_pictures(policy, batches(row, row + 1)) for row in spread.tolist()])
    row = policy.simulate(policy.cameras.clips(first))
    assert row is not None, "a policy without fusion has no features"
    of_policy = {"format": FORMAT, **_features_key(policy)}
    key = {"data": fingerprint(Path(dataset.root)), "episodes": dataset.episodes, **of_policy, **changes}
    store = ArrayStore(root, "features", key, num_rows, tuple(row.shape[1:]), dtype)
    digest = partial(_made_of, json.dumps(of_policy), policy.config.cameras)
    store.ensure(batches, partial(_simulate, policy), num_workers, digest)
    return store


def fingerprint(root: Path) -> str:
    """Changes when a file of a dataset does: names, sizes and times of change.

    Folders that are links are followed: large films often lie elsewhere.

    Raises:
        FileNotFoundError: There are no files; all such folders would look alike.
    """
    found = [Path(folder) / name for folder, _, names in os.walk(root, followlinks=True) for name in names]
    names = sorted(path.relative_to(root) for path in found if path.is_file())
    files = [name for name in names if ".cache" not in name.parts]  # what the Hub's client keeps in there
    if not files:
        raise FileNotFoundError(f"expected a dataset's files in {root}, found none")
    stats = [(name.as_posix(), (root / name).stat()) for name in files]
    text = "\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
    return sha256(text.encode()).hexdigest()


def _features_key(policy: "VegaPolicy") -> dict[str, Any]:
    config = policy.config
    simulator = draccus.encode(policy.simulator.portable_config)
    return {
        "simulator": {name: value for name, value in simulator.items() if name not in NO_EFFECT},
        "weights": _weights_hash(policy.simulator),
        "grid": list(policy.backbone.grid),
        "cameras": list(config.cameras),
        "missing_camera": config.missing_camera,
        "clip": config.observation_delta_indices,
    }


def _weights_hash(module: torch.nn.Module) -> str:
    digest = sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _made_of(of_policy: str, cameras: Sequence[str], batch: Mapping[str, Any]) -> str:
    """Of all that features depend on: who makes them, and the pictures as they are after all changes."""
    digest = sha256(of_policy.encode())
    for name in cameras:
        digest.update(name.encode())
        if name in batch:
            digest.update(batch[name].contiguous().numpy())
    return digest.hexdigest()


def _simulate(policy: "VegaPolicy", batch: Mapping[str, Any]) -> NDArray[Any]:
    pictures = {name: batch[name] for name in policy.config.cameras if name in batch}
    on_cpu = next(policy.parameters()).device.type == "cpu"
    size = FEATURE_BATCH if on_cpu else FEATURE_BATCH_GPU
    parts = zip(*(value.split(size) for value in pictures.values()), strict=True)
    found = [_features(policy, dict(zip(pictures, part, strict=True))) for part in parts]
    return torch.cat(found).numpy()


def _features(policy: "VegaPolicy", pictures: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The simulator's tokens for some samples, in float32 on the CPU."""
    found = policy.simulate(policy.cameras.clips(_pictures(policy, pictures)))
    assert found is not None
    return found.float().cpu()


def _pictures(policy: "VegaPolicy", batch: Mapping[str, Any]) -> dict[str, Any]:
    """The pictures of a batch as the policy takes them."""
    device = next(policy.parameters()).device
    cameras = {name: batch[name] for name in policy.config.cameras if name in batch}
    return {name: value.to(device).float() / 255.0 for name, value in cameras.items()}


def _joined(batches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def _decode(dataset: Any, camera: str, frames: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Frames by their number in the dataset, episode by episode."""
    starts = np.asarray(dataset.meta.episodes["dataset_from_index"])
    episodes = np.searchsorted(starts, frames, side="right") - 1
    spans = np.split(np.arange(len(frames)), np.flatnonzero(np.diff(episodes)) + 1)
    return np.concatenate([_decode_span(dataset, camera, episodes[span[0]], frames[span]) for span in spans])


def _decode_span(
    dataset: Any, camera: str, episode: np.int64, frames: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Frames of one episode by their number in the dataset, through LeRobot's own decoder."""
    from lerobot.datasets.video_utils import decode_video_frames

    meta, row = dataset.meta, dataset.meta.episodes[int(episode)]
    begin_s = row[f"videos/{camera}/from_timestamp"]
    film = dataset.root / meta.get_video_file_path(int(episode), camera)
    times_s = [begin_s + int(frame) / meta.fps for frame in frames - row["dataset_from_index"]]
    decoded: NDArray[np.uint8] = decode_video_frames(film, times_s, 1e-4, return_uint8=True).numpy()
    return decoded
