"""From an arm's reading to what a policy for LIBERO is shown, and from commands back to actions.

Policies see LIBERO's conventions: pictures square and upside down, the end effector in LIBERO's world frame,
the gripper as two finger positions. A robot has upright pictures of any shape, its base's frame and a width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation

from vega_policy.names import nearest_name_error
from vega_policy.runtime.batching import SessionPolicy
from vega_policy.runtime.robots.base import Command, EndEffectorDelta, Reading
from vega_policy.runtime.sources import ChunkRequest, PolicyThread
from vega_policy.runtime.specs import AHEAD, DELAY, nest


@dataclass(frozen=True)
class Observer:
    """Describes readings as LIBERO would.

    Attributes:
        cameras: the policy's names, each with the robot's camera that takes its place.
        base_position_m: the arm's base in the frame that the policy was trained in, axes parallel.
        image_size_px: height and width of the pictures.
    """

    cameras: Mapping[str, str]
    base_position_m: tuple[float, float, float]
    image_size_px: int

    def observation(self, reading: Reading, task: str) -> dict[str, Any]:
        """LIBERO's observation.

        Raises:
            ValueError: The robot has no camera of a name that is needed.
        """
        state, half_m = reading.state, reading.state.gripper_width_m / 2
        return {
            "pixels": {name: self._picture(reading, name)[::-1, ::-1].copy() for name in self.cameras},
            "robot_state": {
                "eef": {
                    "pos": state.position_m + np.asarray(self.base_position_m),
                    "quat": _quaternion(state.rotation),
                },
                "gripper": {"qpos": np.array([half_m, -half_m])},
            },
            "task_description": task,
        }

    def asked(self, request: ChunkRequest) -> dict[str, Any]:
        """LIBERO's observation of a request, with what is ahead of the arm where there is anything.

        Raises:
            ValueError: The robot has no camera of a name that is needed.
        """
        observation = self.observation(request.reading, request.task)
        if len(request.ahead):
            ahead = {AHEAD: np.asarray(request.ahead, np.float32), DELAY: np.float32(request.delay_rows)}
            observation |= nest(ahead)
        return observation

    def _picture(self, reading: Reading, name: str) -> UInt8[np.ndarray, "size size 3"]:
        camera = self.cameras[name]
        if camera not in reading.frames:
            raise nearest_name_error("camera of the robot", camera, reading.frames)
        return square(reading.frames[camera].pixels, self.image_size_px)


def policy_thread(policy: SessionPolicy, observer: Observer, seed: int) -> PolicyThread:
    """A policy for LIBERO, here or behind a client, as a control loop's source of chunks.

    Args:
        policy: for one robot.
        observer: shows it what the robot sees.
        seed: of its episodes.
    """
    return PolicyThread(lambda request: policy.act(observer.asked(request)), lambda: policy.reset(seed))


def square(picture: UInt8[np.ndarray, "height width 3"], size_px: int) -> UInt8[np.ndarray, "size size 3"]:
    """The middle of a picture, scaled; one that has the right size is left as it is."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = picture[top : top + side, left : left + side]
    if side == size_px:
        return middle
    from PIL import Image

    return np.asarray(Image.fromarray(middle).resize((size_px, size_px), Image.Resampling.BOX))


def action_of(command: Command, scale: EndEffectorDelta) -> Float[np.ndarray, " 7"]:
    """The action that `scale` would turn into a command."""
    return np.concatenate(
        [
            command.translation_m / scale.translation_scale_m,
            command.rotation_rad / scale.rotation_scale_rad,
            [1 - 2 * command.gripper_width_m / scale.open_width_m],
        ]
    )


def _quaternion(rotation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, " 4"]:
    """The rotation as (x, y, z, w), of the two quaternions that mean it the one with x >= 0.

    That is the one MuJoCo gives LIBERO for a hand that points down, x = 1, where w changes its sign. The
    other one would turn the rotation vector in the policy's state round.
    """
    quaternion: np.ndarray = Rotation.from_matrix(rotation).as_quat()
    return quaternion if quaternion[0] >= 0 else -quaternion
