"""Observations as openpi's LIBERO example sends them, so that its robots and evaluation run unchanged.

That example turns the images upright and sends the orientation as an axis-angle; a LIBERO policy takes what
the simulator gives, upside-down images and a quaternion. Actions are the same in both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from vega_policy.runtime.batching import BatchedPolicy, Chunk
from vega_policy.runtime.specs import Field, PolicySpec, libero_spec

FIELDS = {
    "observation/image": Field("uint8", (None, None, 3)),
    "observation/wrist_image": Field("uint8", (None, None, 3)),
    "observation/state": Field("float", (8,)),
    "prompt": Field("text"),
}


def openpi_libero_spec(policy: PolicySpec) -> PolicySpec:
    """The contract of `OpenpiLibero` around a policy.

    Raises:
        ValueError: The policy reads something that openpi's LIBERO example does not send.
    """
    sent = libero_spec(("image", "image2"), 7, policy.control_hz, policy.revision).observation
    if missing := sorted(policy.observation.keys() - sent.keys()):
        raise ValueError(f"openpi's LIBERO robots do not send {', '.join(missing)}, which the policy reads")
    return replace(policy, observation=FIELDS, optional={})


class OpenpiLibero:
    """A policy for LIBERO's observations, asked with those of openpi's example."""

    def __init__(self, policy: BatchedPolicy) -> None:
        self._policy = policy

    @property
    def max_batch(self) -> int:
        """That of the policy."""
        return self._policy.max_batch

    def reset(self, session: int, seed: int) -> None:
        """Start an episode of a session."""
        self._policy.reset(session, seed)

    def forget(self, session: int) -> None:
        """Drop what belongs to a session that has ended."""
        self._policy.forget(session)

    def infer(self, sessions: Sequence[int], observations: Sequence[Mapping[str, Any]]) -> Sequence[Chunk]:
        """Ask the policy with LIBERO's observations."""
        return self._policy.infer(sessions, [as_libero(observation) for observation in observations])


def as_libero(observation: Mapping[str, Any]) -> dict[str, Any]:
    """LIBERO's observation of one that openpi's example made from it."""
    sent = observation["observation"]
    state = np.asarray(sent["state"], np.float64)
    eef = {"pos": state[:3], "quat": quaternion(state[3:6])}
    return {
        "pixels": {"image": _turned(sent["image"]), "image2": _turned(sent["wrist_image"])},
        "robot_state": {"eef": eef, "gripper": {"qpos": state[6:]}},
        "task_description": observation["prompt"],
    }


def quaternion(axis_angle: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 4"]:
    """The rotation about an axis by its length in rad, as (x, y, z, w); w is negative beyond pi."""
    angle_rad = np.linalg.norm(axis_angle)
    sine_over_angle = np.sinc(angle_rad / (2 * np.pi)) / 2  # sin(angle / 2) / angle, also at 0
    return np.append(axis_angle * sine_over_angle, np.cos(angle_rad / 2))


def _turned(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[::-1, ::-1])
