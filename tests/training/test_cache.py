"""The cache gives what LeRobot and the simulator give, and is never believed when it should not be."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.configs.types import NormalizationMode  # noqa: F401  (registers LeRobot's types)
from lerobot.datasets import EpisodeAwareSampler, video_utils
from lerobot.datasets.factory import resolve_delta_timestamps
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies.factory import make_policy
from numpy.typing import NDArray
from small_data import LENGTHS, make_dataset
from torch.utils.data import DataLoader, default_collate
from torchvision.transforms.v2 import Identity

from vega_policy.configuration_vega import VegaConfig
from vega_policy.features import SIMULATED
from vega_policy.modeling_vega import VegaPolicy
from vega_policy.training.accelerator import TrainingAccelerator
from vega_policy.training.cache import contents, store
from vega_policy.training.cache.contents import ensure_pictures, fingerprint
from vega_policy.training.cache.dataset import CacheConfig, CachedDataset
from vega_policy.training.cache.shift import shifted
from vega_policy.training.merging import merge_datasets

BLOCK_ROWS = 5


def test_a_dataset_below_a_folder_of_caches_is_told_from_another(tmp_path: Path) -> None:
    """LeRobot's own place for datasets is `~/.cache/huggingface`."""
    root = tmp_path / ".cache" / "data"
    (root / "meta" / ".cache").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="expected a dataset's files"):
        fingerprint(root)
    (root / "meta" / "info.json").write_text("{}")
    first = fingerprint(root)
    (root / "meta" / ".cache" / "download.lock").touch()
    assert fingerprint(root) == first
    (root / "meta" / "info.json").write_text("{ }")
    assert fingerprint(root) != first
    (tmp_path / "elsewhere").mkdir()
    film = tmp_path / "elsewhere" / "film.mp4"
    film.write_text("1")
    (root / "videos").symlink_to(tmp_path / "elsewhere")
    first = fingerprint(root)
    film.write_text("12")
    assert fingerprint(root) != first, "large films often lie behind a link"


def test_films_of_episodes_that_were_not_chosen_are_not_read(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path
) -> None:
    whole, chosen = (plain_dataset(small_dataset, small_policy, episodes) for episodes in (None, [0, 2]))
    camera = whole.meta.video_keys[0]
    frames = [np.asarray(dataset.hf_dataset["index"]) for dataset in (whole, chosen)]
    everything = ensure_pictures(tmp_path, whole, camera, frames[0]).open()
    pictures = ensure_pictures(tmp_path, chosen, camera, frames[1]).open()
    assert len(pictures) == len(frames[1]) < len(everything)
    assert np.array_equal(pictures, everything[frames[1]])


def plain_dataset(root: Path, config: VegaConfig, episodes: list[int] | None = None) -> LeRobotDataset:
    whole = LeRobotDataset("local/data", root=root)
    deltas = resolve_delta_timestamps(config, whole.meta)
    return LeRobotDataset(
        "local/data", root=root, delta_timestamps=deltas, episodes=episodes, return_uint8=True
    )


def with_history(config: VegaConfig) -> VegaConfig:
    return replace(config, simulator=replace(config.simulator, clip_length=5))


@pytest.mark.parametrize("episodes", [None, [0, 2]])
@pytest.mark.parametrize("history", [False, True])
def test_samples_are_lerobots(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path, episodes: list[int] | None, history: bool
) -> None:
    config = with_history(small_policy) if history else small_policy
    plain = plain_dataset(small_dataset, config, episodes)
    cached = CachedDataset(plain, tmp_path)
    assert len(cached) == len(plain)
    for position in range(len(plain)):
        expected, found = plain[position], cached[position]
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            if isinstance(value, torch.Tensor):
                assert found[key].dtype == value.dtype, key
                assert torch.equal(found[key], value), key
            else:
                assert found[key] == value


def test_features_are_the_simulators(small_dataset: Path, small_policy: VegaConfig, tmp_path: Path) -> None:
    plain = plain_dataset(small_dataset, small_policy)
    policy = make_policy(small_policy, ds_meta=plain.meta)
    assert isinstance(policy, VegaPolicy)
    cached = CachedDataset(plain, tmp_path)
    cached.add_features(plain, tmp_path, policy, "float16")
    batch = default_collate([cached[position] for position in range(0, len(cached), 3)])
    clips = policy.cameras.clips({key: batch[key].float() / 255 for key in small_policy.cameras})
    expected, stored = policy.simulate(clips), batch[SIMULATED]
    assert expected is not None
    assert torch.allclose(stored.float(), expected, rtol=2**-11, atol=1e-5)
    assert not torch.allclose(stored[0].float(), expected[1], rtol=1e-2), "each sample has its own"


def test_a_merged_dataset_simulates_only_what_is_new(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(policy: VegaPolicy, batch: Mapping[str, Any]) -> NDArray[Any]:
        simulated[-1] += len(batch["index"])
        return simulate(policy, batch)

    def features(root: Path, cache: Path) -> NDArray[Any]:
        simulated.append(0)
        plain = plain_dataset(root, small_policy)
        policy = make_policy(small_policy, ds_meta=plain.meta)
        cached = CachedDataset(plain, cache)
        cached.add_features(plain, cache, policy, "float16")
        return np.stack([cached[position][SIMULATED] for position in range(len(cached))])

    simulated: list[int] = []
    simulate = contents._simulate
    monkeypatch.setattr(contents, "_simulate", counted)
    monkeypatch.setattr(
        store, "BLOCK_BYTES", BLOCK_ROWS * features(small_dataset, tmp_path / "row")[0].nbytes
    )
    merge_datasets([small_dataset, make_dataset(tmp_path / "round", seed=1)], tmp_path / "both")
    features(small_dataset, tmp_path / "cache")
    found = features(tmp_path / "both", tmp_path / "cache")
    assert np.array_equal(found, features(tmp_path / "both", tmp_path / "fresh"))
    alike = sum(LENGTHS) // BLOCK_ROWS * BLOCK_ROWS  # in whole blocks
    assert simulated[1:] == [sum(LENGTHS), 2 * sum(LENGTHS) - alike, 2 * sum(LENGTHS)]


@pytest.mark.parametrize("cameras", [1, 2])
def test_shuffled_features_come_from_pictures_of_the_whole_dataset(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path, cameras: int
) -> None:
    small_policy.cameras = small_policy.cameras[:cameras]
    small_policy.simulator = replace(small_policy.simulator, control="shuffled")
    plain = plain_dataset(small_dataset, small_policy)
    policy = make_policy(small_policy, ds_meta=plain.meta)
    assert isinstance(policy, VegaPolicy)
    cached = CachedDataset(plain, tmp_path)
    cached.add_features(plain, tmp_path, policy, "float16")
    batch = default_collate([cached[position] for position in range(len(cached))])
    shown = [(batch[key] * 1.0).flatten(1) for key in small_policy.cameras]
    banked = policy.simulator.bank.flatten(1).float()
    found = {int(row) for pictures in shown for row in torch.cdist(banked, pictures).argmin(dim=1)}
    assert max(found) - min(found) > 0.9 * len(cached) - 2


def test_another_simulator_does_not_get_these_features(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path
) -> None:
    plain = plain_dataset(small_dataset, small_policy)
    changes = [{}, {"noise_seed": 1}, {"block": 0}, {"noise_level": 100}, {"init_seed": 1}]
    for change in changes:
        config = replace(small_policy, simulator=replace(small_policy.simulator, **change))
        policy = make_policy(config, ds_meta=plain.meta)
        CachedDataset(plain, tmp_path).add_features(plain, tmp_path, policy, "float16")
    assert len(list(tmp_path.glob("features-*"))) == len(changes)
    assert len(list(tmp_path.glob("pictures-*"))) == 2


def test_a_changed_dataset_does_not_get_the_old_ones_pictures(
    small_policy: VegaConfig, tmp_path: Path
) -> None:
    root = make_dataset(tmp_path / "data")
    old = CachedDataset(plain_dataset(root, small_policy), tmp_path / "cache")[0]
    shutil.rmtree(tmp_path / "data.recordings")
    make_dataset(root, seed=1)  # as many frames, under the same names
    video_utils._default_decoder_cache.clear()  # LeRobot keeps films open by name
    plain = plain_dataset(root, small_policy)
    new, expected = CachedDataset(plain, tmp_path / "cache")[0], plain[0]
    for key in small_policy.cameras:
        assert torch.equal(new[key], expected[key])
        assert not torch.equal(new[key], old[key])


def test_transforms_are_refused(small_dataset: Path, tmp_path: Path) -> None:
    transformed = LeRobotDataset("local/data", root=small_dataset, image_transforms=Identity())
    with pytest.raises(ValueError, match=r"cache\.enabled=false"):
        CachedDataset(transformed, tmp_path)


def test_a_shift_moves_a_sample_as_a_whole_and_repeats_the_edge() -> None:
    clip = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 12), dtype=np.uint8)
    assert shifted(clip, frame=7, camera=0, most_px=0) is clip
    moves = set()
    for frame in range(60):
        moved = shifted(clip, frame, camera=0, most_px=2)
        padded = np.pad(clip, [(0, 0), (0, 0), (2, 2), (2, 2)], mode="edge")
        found = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if np.array_equal(moved, padded[..., 2 - down : 18 - down, 2 - right : 14 - right])
        ]
        assert len(found) == 1
        moves.update(found)
    assert len(moves) > 20, "of 25 there are"
    assert not np.array_equal(shifted(clip, 1, 0, 2), shifted(clip, 1, 1, 2)), "cameras move apart"


@pytest.mark.parametrize("history", [False, True])
def test_both_streams_follow_a_shift(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path, history: bool
) -> None:
    config = with_history(small_policy) if history else small_policy
    plain = plain_dataset(small_dataset, config)
    policy = make_policy(config, ds_meta=plain.meta)
    assert isinstance(policy, VegaPolicy)
    still, moving = CachedDataset(plain, tmp_path), CachedDataset(plain, tmp_path, shift_px=3)
    for cached in (still, moving):
        cached.add_features(plain, tmp_path, policy, "float32")
    assert len(list(tmp_path.glob("pictures-*"))) == 2, "the same pictures, one array for each camera"
    assert len(list(tmp_path.glob("features-*"))) == 2, "other features"
    samples = [moving[position] for position in range(0, len(moving), 5)]
    for sample in samples:
        for camera, key in enumerate(config.cameras):
            original = still[int(sample["index"])][key].numpy()
            assert np.array_equal(sample[key], shifted(original, int(sample["index"]), camera, 3))
    batch = default_collate(samples)
    clips = policy.cameras.clips({key: batch[key].float() / 255 for key in config.cameras})
    expected = policy.simulate(clips)
    assert expected is not None
    assert torch.allclose(batch[SIMULATED], expected, atol=1e-5)


def test_held_out_pictures_are_not_moved(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path
) -> None:
    plain = plain_dataset(small_dataset, small_policy)
    policy = make_policy(small_policy, ds_meta=plain.meta)
    bounds = (plain.meta.episodes[f"dataset_{end}_index"] for end in ("from", "to"))
    training = DataLoader(plain, sampler=EpisodeAwareSampler(*bounds, shuffle=True))
    settings = CacheConfig(enabled=True, root=tmp_path, shift_px=3)
    accelerator = TrainingAccelerator("cpu", "no", settings, None, lambda _: None)
    _, moved, held_out = accelerator.prepare(policy, training, DataLoader(plain))
    (key, *_) = small_policy.cameras
    pairs = [(moved.dataset[row][key], held_out.dataset[row][key], plain[row][key]) for row in range(20)]
    assert all(torch.equal(other, original) for _, other, original in pairs)
    assert any(not torch.equal(picture, original) for picture, _, original in pairs)


def test_a_shift_without_a_cache_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cache\.enabled=true"):
        CacheConfig(shift_px=2)
    with pytest.raises(ValueError, match=r"at least 0, got -1"):
        CacheConfig(enabled=True, shift_px=-1)
