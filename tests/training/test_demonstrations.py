"""Datasets written from recordings, read back by LeRobot."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from vega_policy.quantiles import dataset_quantiles
from vega_policy.rollouts.recording import EpisodeWriter, read_recording
from vega_policy.training import demonstrations as room
from vega_policy.training.demonstrations import Demonstration, write_dataset
from vega_policy.training.libero_data import ACTION_KEY, IMAGE_KEYS, STATE_KEY, check_libero_dataset

LENGTHS = (5, 8, 6)
TASKS = ("open the drawer", "close the drawer", "open the drawer")
SIZE_PX = 32


def brightness(episode: int, frame: int, camera: int) -> int:
    return 20 + 60 * episode + 7 * frame + 4 * camera


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[Demonstration]:
    """Three episodes of two tasks; each picture is grey, its level tells episode, frame and camera."""
    folder, rng = tmp_path_factory.mktemp("recorded"), np.random.default_rng(0)
    made = []
    for episode, (length, task) in enumerate(zip(LENGTHS, TASKS, strict=True)):
        writer = EpisodeWriter(folder / str(episode), 20)
        for frame in range(length):
            pictures = {
                key: np.full((SIZE_PX, SIZE_PX, 3), brightness(episode, frame, camera), np.uint8)
                for camera, key in enumerate(IMAGE_KEYS.values())
            }
            vectors = {STATE_KEY: rng.standard_normal(8), ACTION_KEY: rng.uniform(-1, 1, 7)}
            writer.add({**pictures, **vectors})
        writer.finish({"seed": episode})
        found = read_recording(folder / str(episode))
        made.append(Demonstration(task, found.columns, found.films, found.histograms, found.facts))
    return made


@pytest.fixture(scope="module")
def dataset(recorded: Sequence[Demonstration], tmp_path_factory: pytest.TempPathFactory) -> LeRobotDataset:
    """Spread over two files of two episodes."""
    root = tmp_path_factory.mktemp("written") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "EPISODES_PER_FILE", 2)
        write_dataset(root, recorded, SIZE_PX, {"git_revision": "abc"})
    return LeRobotDataset("local/data", root=root, delta_timestamps={ACTION_KEY: [0.0, 0.05, 0.1]})


def test_every_frame_comes_back(dataset: LeRobotDataset, recorded: Sequence[Demonstration]) -> None:
    assert (dataset.num_episodes, dataset.num_frames, dataset.fps) == (3, sum(LENGTHS), 20)
    check_libero_dataset(dataset.meta)
    places = [(episode, frame) for episode, length in enumerate(LENGTHS) for frame in range(length)]
    for index, (episode, frame) in enumerate(places):
        item, source = dataset[index], recorded[episode]
        assert (int(item["episode_index"]), int(item["frame_index"])) == (episode, frame)
        assert item["task"] == TASKS[episode]
        assert np.array_equal(item[STATE_KEY], source.columns[STATE_KEY][frame])
        assert np.array_equal(item[ACTION_KEY][0], source.columns[ACTION_KEY][frame])
        assert int(item[f"{ACTION_KEY}_is_pad"].sum()) == max(0, frame + 3 - LENGTHS[episode])
        for camera, key in enumerate(IMAGE_KEYS.values()):
            assert item[key].shape == (3, SIZE_PX, SIZE_PX)
            assert abs(255 * float(item[key].mean()) - brightness(episode, frame, camera)) < 2


def test_statistics_are_those_of_all_frames(
    dataset: LeRobotDataset, recorded: Sequence[Demonstration]
) -> None:
    actions = np.concatenate([item.columns[ACTION_KEY] for item in recorded])
    stats = dataset.meta.stats
    assert np.allclose(stats[ACTION_KEY]["q01"], np.quantile(actions, 0.01, axis=0), atol=1e-6)
    assert np.allclose(
        stats[ACTION_KEY]["q99"], dataset_quantiles(dataset.root, ACTION_KEY)["q99"], atol=1e-6
    )
    levels = [brightness(e, f, 0) / 255 for e, length in enumerate(LENGTHS) for f in range(length)]
    assert np.allclose(stats[IMAGE_KEYS["image"]]["mean"].ravel(), np.mean(levels))
    assert set(stats) == set(dataset.meta.features)


def test_the_provenance_tells_every_episodes_origin(dataset: LeRobotDataset) -> None:
    provenance = json.loads((dataset.root / "meta" / "provenance.json").read_text())
    assert provenance["git_revision"] == "abc"
    assert provenance["episodes"] == [{"episode_index": index, "seed": index} for index in range(3)]


def test_the_same_demonstrations_give_the_same_bytes(
    recorded: Sequence[Demonstration], tmp_path: Path
) -> None:
    def contents(root: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.*") if path.is_file()
        }

    write_dataset(tmp_path / "data", recorded, SIZE_PX, {})
    first = contents(tmp_path / "data")
    write_dataset(tmp_path / "data", recorded, SIZE_PX, {})
    assert contents(tmp_path / "data") == first
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_what_is_no_such_dataset_is_not_overwritten(
    recorded: Sequence[Demonstration], tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="choose another folder"):
        write_dataset(tmp_path, recorded, SIZE_PX, {})
    with pytest.raises(ValueError, match="no demonstration"):
        write_dataset(tmp_path / "new", [], SIZE_PX, {})
