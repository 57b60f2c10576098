"""LIBERO's data in LeRobot's terms: which keys, shapes and rate a dataset must have, whoever made it.

Pictures are upright, 180 degrees from what LIBERO renders; the gripper's command is the environment's, -1 to
open and 1 to close.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

OTHER_NAMES = {
    "observation.images.image": ("image", "agentview", "agentview_rgb", "front"),
    "observation.images.image2": ("wrist_image", "wrist", "eye_in_hand_rgb", "image_wrist"),
    "observation.state": ("state", "proprio"),
    "action": ("actions",),
}
"""What conversions of LIBERO's data call the same things, after the last dot."""

FPS = 20
"""LIBERO's control rate in Hz."""

DECLARED_FPS = (FPS, 10)
"""Some public conversions of LIBERO's demonstrations say 10, though their frames are 20 Hz control steps."""

IMAGE_KEYS = {"image": "observation.images.image", "image2": "observation.images.image2"}
"""Agent view and wrist, from the environment's name to the dataset's."""

STATE_KEY, ACTION_KEY = "observation.state", "action"
VECTORS = {
    STATE_KEY: ("x_m", "y_m", "z_m", "rx_rad", "ry_rad", "rz_rad", "finger_left_m", "finger_right_m"),
    ACTION_KEY: ("x", "y", "z", "rx", "ry", "rz", "gripper"),
}
"""What each number is: the end effector's position and rotation vector in the world frame and the fingers'
positions; the action is relative, in units of the controller's limits."""


def libero_features(image_size_px: int) -> dict[str, dict[str, Any]]:
    """The features of a dataset, as LeRobot describes them."""
    picture = {
        "dtype": "video",
        "shape": (image_size_px, image_size_px, 3),
        "names": ["height", "width", "channels"],
    }
    return {key: dict(picture) for key in IMAGE_KEYS.values()} | vector_features(VECTORS)


def vector_features(vectors: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """The features of columns whose numbers have names."""
    return {
        key: {"dtype": "float32", "shape": (len(names),), "names": list(names)}
        for key, names in vectors.items()
    }


def libero_frame(observation: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """What a dataset keeps of an observation of the environment.

    Args:
        observation: With `pixels` upside down, as LIBERO renders them, and `robot_state`.

    Returns:
        By the dataset's keys: upright pictures (height, width, 3), uint8, and the state (8,), float32.
    """
    robot = observation["robot_state"]
    eef = robot["eef"]
    state = np.concatenate([eef["pos"], rotation_vector(eef["quat"]), robot["gripper"]["qpos"]])
    upright = {key: observation["pixels"][name][::-1, ::-1] for name, key in IMAGE_KEYS.items()}
    return {**upright, STATE_KEY: state.astype(np.float32)}


def rotation_vector(quaternion: NDArray[np.floating]) -> Float32[NDArray[np.float32], " 3"]:
    """Axis times angle (rad) of a quaternion xyzw, by the formula of LeRobot's `LiberoProcessorStep`.

    The angle is in [0, 2 pi], not the shorter way round: the hand points down, where the shorter way would
    jump between two opposite vectors.
    """
    x, y, z, w = quaternion.astype(np.float32)
    w = np.clip(w, -1.0, 1.0)
    length = np.sqrt(np.maximum(1.0 - w * w, 0.0))
    if length < 1e-10:
        return np.zeros(3, np.float32)
    vector: NDArray[np.float32] = np.array([x, y, z], np.float32) / length * (2.0 * np.arccos(w))
    return vector


def check_libero_dataset(meta: Any) -> None:
    """Refuse a dataset from which a LIBERO policy cannot be trained, before any training.

    Args:
        meta: LeRobot's metadata of it (`LeRobotDatasetMetadata`): `features`, `fps`, `repo_id`.

    Raises:
        ValueError: For a missing key, with the nearest one there is, a wrong shape or a wrong rate.
    """
    for key in (*IMAGE_KEYS.values(), *VECTORS):
        if key not in meta.features:
            raise ValueError(_missing(key, meta))
    for key in IMAGE_KEYS.values():
        shape = tuple(meta.features[key]["shape"])
        if len(shape) != 3 or shape[2] != 3:
            raise ValueError(f"expected {key} of {meta.repo_id} to be (height, width, 3), it is {shape}")
    for key, names in VECTORS.items():
        shape = tuple(meta.features[key]["shape"])
        if shape != (len(names),):
            raise ValueError(
                f"expected {key} of {meta.repo_id} to be ({len(names)},): {', '.join(names)}; it is {shape}"
            )
    if meta.fps not in DECLARED_FPS:
        raise ValueError(
            f"expected {meta.repo_id} to have fps {FPS}, LIBERO's control rate (some conversions declare 10 "
            f"for it), it has {meta.fps}"
        )


def check_films(meta: Any) -> None:
    """Refuse a dataset whose pictures are not films, where films are what is read.

    Args:
        meta: LeRobot's metadata of it.

    Raises:
        ValueError: A camera's pictures are single images, or there is no camera.
    """
    stills = [key for key in meta.camera_keys if key not in meta.video_keys]
    if stills or not meta.video_keys:
        found = f"{', '.join(stills)} are single images" if stills else "it has no camera"
        raise ValueError(
            f"expected the pictures of {meta.repo_id} as films (dtype video), {found}: convert it with "
            "lerobot-edit-dataset --operation.type convert_image_to_video (only training without "
            "cache.enabled reads single images)"
        )


def _missing(key: str, meta: Any) -> str:
    from lerobot.utils.constants import DEFAULT_FEATURES

    present = sorted(set(meta.features) - set(DEFAULT_FEATURES))
    unknown = [name for name in present if name not in (*IMAGE_KEYS.values(), *VECTORS)]
    called = [name for name in unknown if name.rsplit(".", 1)[-1] in OTHER_NAMES[key]]
    nearest = called or difflib.get_close_matches(key, unknown, n=1, cutoff=0.6)
    rename = f"; is it {nearest[0]}? Then write the dataset anew under the right name" if nearest else ""
    return f"expected the key {key} in {meta.repo_id}, it has {', '.join(present)}{rename}"
