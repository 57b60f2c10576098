"""LIBERO's keys, shapes and rate: what is kept of an observation, and which datasets are refused."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.processor.env_processor import LiberoProcessorStep

from vega_policy.training.libero_data import (
    check_films,
    check_libero_dataset,
    libero_features,
    libero_frame,
    rotation_vector,
)


def metadata(**changes: Any) -> SimpleNamespace:
    """Metadata of a good dataset; a feature changed to None is absent."""
    features = {**libero_features(256), **changes.pop("features", {})}
    present = {key: value for key, value in features.items() if value is not None}
    return SimpleNamespace(**{"repo_id": "someone/libero", "fps": 20, "features": present, **changes})


def observation(rng: np.random.Generator) -> dict[str, Any]:
    quat = rng.standard_normal(4)
    return {
        "pixels": {name: rng.integers(0, 256, (8, 8, 3), np.uint8) for name in ("image", "image2")},
        "robot_state": {
            "eef": {"pos": rng.standard_normal(3), "quat": quat / np.linalg.norm(quat), "mat": np.eye(3)},
            "gripper": {"qpos": rng.standard_normal(2), "qvel": np.zeros(2)},
            "joints": {"pos": np.zeros(7), "vel": np.zeros(7)},
        },
        "task_description": "do it",
    }


def test_a_frame_equals_what_lerobots_own_step_makes_of_the_observation() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        seen = observation(rng)
        frame = libero_frame(seen)
        robot = {
            part: {name: torch.as_tensor(value)[None] for name, value in values.items()}
            for part, values in seen["robot_state"].items()
        }
        pictures = {
            f"observation.images.{name}": torch.as_tensor(picture.transpose(2, 0, 1).copy())[None]
            for name, picture in seen["pixels"].items()
        }
        theirs = LiberoProcessorStep().observation({**pictures, "observation.robot_state": robot})
        assert np.allclose(frame["observation.state"], theirs["observation.state"][0], atol=1e-5)
        for key in pictures:
            assert np.array_equal(frame[key], theirs[key][0].numpy().transpose(1, 2, 0))


def test_no_rotation_is_the_zero_vector() -> None:
    assert np.array_equal(rotation_vector(np.array([0.0, 0.0, 0.0, 1.0])), np.zeros(3))


def test_a_good_dataset_passes_and_so_does_one_that_declares_10_fps() -> None:
    check_libero_dataset(metadata())
    check_libero_dataset(metadata(fps=10))
    check_libero_dataset(metadata(features={"observation.images.third": libero_features(64)["action"]}))


@pytest.mark.parametrize(
    ("cameras", "films", "message"),
    [(["a", "b"], ["b"], "a are single images"), ([], [], "no camera")],
)
def test_films_are_asked_for_where_they_are_read(cameras: list[str], films: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"{message}.*convert_image_to_video"):
        check_films(SimpleNamespace(repo_id="someone/libero", camera_keys=cameras, video_keys=films))
    check_films(SimpleNamespace(repo_id="someone/libero", camera_keys=["a"], video_keys=["a"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fps": 30}, "fps 20.*it has 30"),
        ({"features": {"action": {"shape": (8,)}}}, r"action .*to be \(7,\).*it is \(8,\)"),
        ({"features": {"observation.state": {"shape": [9]}}}, r"observation.state .*\(8,\).*it is \(9,\)"),
        ({"features": {"observation.images.image": {"shape": (3, 256, 256)}}}, r"\(height, width, 3\)"),
        (
            {"features": {"observation.images.image2": None, "observation.images.wrist_image": {}}},
            "the key observation.images.image2 in someone/libero.*is it observation.images.wrist_image",
        ),
        (
            {"features": {"action": None, "actions": {}, "timestamp": {}}},
            "expected the key action .*it has actions, observation.images.image, .*is it actions",
        ),
        (
            {"features": {"observation.images.image": None, "image": {}}},
            "it has action, image, .*is it image",
        ),
        ({"features": {"observation.state": None}}, "expected the key observation.state"),
    ],
)
def test_an_unfit_dataset_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_libero_dataset(metadata(**changes))
