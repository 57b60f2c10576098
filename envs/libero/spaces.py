"""Spaces of actions and observations, and the check of an action before it reaches the simulation."""

import math
import string
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Float64
from numpy.typing import ArrayLike, NDArray

CAMERAS = {"image": "agentview", "image2": "robot0_eye_in_hand"}
CONTROL_MODES = ("relative", "absolute")
ACTION_DIM = 7


def checked_chunk(action: ArrayLike) -> Float64[NDArray[np.float64], "steps 7"]:
    """The action as a chunk.

    Args:
        action: Shape (7,) or (T, 7).

    Raises:
        ValueError: If it has another shape, or a value that is not finite.
    """
    chunk = np.asarray(action, dtype=np.float64)
    if chunk.ndim == 1:
        chunk = chunk[None]
    if chunk.ndim != 2 or chunk.shape[1] != ACTION_DIM or len(chunk) == 0:
        raise ValueError(
            f"expected an action of shape (7,) or a chunk (T, 7) with T >= 1, got {np.shape(action)}"
        )
    if not np.isfinite(chunk).all():
        step, dim = np.argwhere(~np.isfinite(chunk))[0]
        raise ValueError(f"expected a finite action, got {chunk[step, dim]} at step {step}, dimension {dim}")
    return chunk


def action_space(control_mode: str) -> spaces.Box:
    """The space of one action, of which chunks are stacks.

    Args:
        control_mode: "relative", in units of the controller's limits, or "absolute", in m and rad.
    """
    if control_mode == "relative":
        return spaces.Box(-1, 1, (ACTION_DIM,), np.float32)
    reach = np.array([2.0] * 3 + [math.pi] * 3 + [1.0], dtype=np.float32)  # m, rad, gripper
    return spaces.Box(-reach, reach, dtype=np.float32)


def observation_space(image_size_px: int | None) -> spaces.Dict:
    """The space of observations.

    Args:
        image_size_px: Height and width of the pictures; None for observations without.
    """

    def real(*shape: int) -> spaces.Box:
        return spaces.Box(-np.inf, np.inf, shape, np.float64)

    described: dict[str, spaces.Space[Any]] = {
        "robot_state": spaces.Dict(
            {
                "eef": spaces.Dict({"pos": real(3), "quat": real(4), "mat": real(3, 3)}),
                "gripper": spaces.Dict({"qpos": real(2), "qvel": real(2)}),
                "joints": spaces.Dict({"pos": real(7), "vel": real(7)}),
            }
        ),
        "task_description": spaces.Text(max_length=256, charset=string.ascii_letters + string.digits + " "),
    }
    if image_size_px is not None:
        picture = spaces.Box(0, 255, (image_size_px, image_size_px, 3), np.uint8)
        described["pixels"] = spaces.Dict(dict.fromkeys(CAMERAS, picture))
    return spaces.Dict(described)
