"""A Panda at LIBERO's table that behaves like hardware: time passes whether or not somebody commands it.

One `advance` is one control period of 50 ms. A displacement given since the last one is executed exactly as
LIBERO executes an action; without one the controller goes on towards its last target and keeps its grip, as
an impedance controller on a real arm does. Poses are in the arm's base frame, not in LIBERO's world frame.
Cameras take turns, one picture a period at most: a picture costs as much time as the physics.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vega_policy.envs.libero.env import LiberoEnv
from vega_policy.envs.libero.raw import CONTROL_FREQUENCY_HZ
from vega_policy.envs.libero.rendering import Image
from vega_policy.envs.libero.spaces import CAMERAS

PERIOD_S = 1 / CONTROL_FREQUENCY_HZ
TRANSLATION_SCALE_M, ROTATION_SCALE_RAD = 0.05, 0.5  # robosuite's OSC_POSE at full scale
OPEN_WIDTH_M = 0.08
WIDTH_TOLERANCE_M = 0.002  # the fingers' speed is all that can be commanded, so a width is hit by and by

Vector = Float64[NDArray[np.float64], " 3"]


@dataclass(frozen=True, eq=False)
class Measured:
    """What LIBERO's sensors say, in the base frame.

    Attributes:
        position_m: Between the finger tips.
        rotation: Axes of the hand as columns.
        joints_rad: Base first.
        gripper_width_m: Between the fingers.
    """

    position_m: Vector
    rotation: Float64[NDArray[np.float64], "3 3"]
    joints_rad: Float64[NDArray[np.float64], " 7"]
    gripper_width_m: float


class LiberoArm:
    """The arm of one LIBERO episode, without a step limit.

    `advance` belongs to the thread that built the arm, which owns the GL context; orders may come from any.
    """

    def __init__(self, env: LiberoEnv, *, trial: int, seed: int, camera_periods: int = 2) -> None:
        """Reset the environment and take it over.

        Args:
            env: With images; nobody else may step it.
            trial: Which init state.
            seed: Of the reset.
            camera_periods: Each camera takes a picture every so many periods; at least as many as there are
                cameras.

        Raises:
            ValueError: The cameras would have to be drawn more than one a period.
        """
        if camera_periods < len(CAMERAS):
            raise ValueError(f"expected camera_periods >= {len(CAMERAS)}, got {camera_periods}")
        observation, _ = env.reset(seed=seed, options={"trial": trial})
        self._env, self._raw = env, env.raw
        self._raw.ignore_done = True  # robosuite would refuse to go on after its horizon of 1000 steps
        self._controller = self._raw.robots[0].controller
        self.base_position_m: Vector = np.array(self._raw.robots[0].base_pos, np.float64)
        self.frames: dict[str, Image] = {
            key: image[::-1, ::-1] for key, image in observation["pixels"].items()
        }
        self._camera_periods = camera_periods
        self._observed: Mapping[str, Any] = self._raw._get_observations()
        self._lock = threading.Lock()
        self._asked: tuple[Vector, Vector] | None = None
        self._width_m = OPEN_WIDTH_M
        self._is_braking = False
        self._target_position_m, self._target_rotation = self._pose()
        self.periods = 0
        self.is_success = False

    @property
    def measured(self) -> Measured:
        """As of the end of the last period."""
        seen = self._observed
        left_m, right_m = seen["robot0_gripper_qpos"]
        return Measured(
            seen["robot0_eef_pos"] - self.base_position_m,
            Rotation.from_quat(seen["robot0_eef_quat"]).as_matrix(),
            seen["robot0_joint_pos"].copy(),
            float(left_m - right_m),
        )

    def move(self, translation_m: Vector, rotation_rad: Vector, width_m: float) -> None:
        """Have the next period begin a displacement, along and about the base's axes, and set the grip.

        Raises:
            ValueError: A number is not finite.
        """
        if not np.isfinite([*translation_m, *rotation_rad, width_m]).all():
            raise ValueError(
                f"expected a finite displacement, got {translation_m}, {rotation_rad}, {width_m}"
            )
        with self._lock:
            self._asked, self._width_m = (np.array(translation_m), np.array(rotation_rad)), width_m
            self._is_braking = False

    def brake(self) -> None:
        """Have the next period begin with all joints at rest, where they are."""
        with self._lock:
            self._asked, self._is_braking = None, True

    def advance(self) -> list[str]:
        """Let one control period pass; returns the cameras that took a picture in it."""
        with self._lock:
            asked, width_m = self._asked, self._width_m
            is_braking, self._asked, self._is_braking = self._is_braking, None, False
        if is_braking:
            self._raw.sim.data.qvel[self._raw.robots[0]._ref_joint_vel_indexes] = 0.0
            self._target_position_m, self._target_rotation = self._pose()
        translation_m, rotation_rad = asked if asked is not None else self._way_to_target()
        action = np.concatenate(
            [translation_m / TRANSLATION_SCALE_M, rotation_rad / ROTATION_SCALE_RAD, [self._grip(width_m)]]
        )
        self._observed, _, success, _ = self._raw.step(action)
        self._target_position_m = np.array(self._controller.goal_pos)
        self._target_rotation = np.array(self._controller.goal_ori)
        self.is_success |= bool(success)
        self.periods += 1
        return self._take_pictures()

    def close(self) -> None:
        """Free the simulation."""
        self._env.close()

    def _pose(self) -> tuple[Vector, Float64[NDArray[np.float64], "3 3"]]:
        """The controlled point in the world frame, which is not where the sensors' hand frame is."""
        self._controller.update(force=True)
        return self._controller.ee_pos.copy(), self._controller.ee_ori_mat.copy()

    def _way_to_target(self) -> tuple[Vector, Vector]:
        position_m, rotation = self._pose()
        turn = Rotation.from_matrix(self._target_rotation @ rotation.T).as_rotvec()
        return self._target_position_m - position_m, turn

    def _grip(self, width_m: float) -> float:
        """LIBERO's gripper action: 1 closes, -1 opens, 0 leaves the fingers' target."""
        if width_m <= WIDTH_TOLERANCE_M:
            return 1.0
        if width_m >= OPEN_WIDTH_M - WIDTH_TOLERANCE_M:
            return -1.0
        excess_m = self.measured.gripper_width_m - width_m
        return float(np.sign(excess_m)) if abs(excess_m) > WIDTH_TOLERANCE_M else 0.0

    def _take_pictures(self) -> list[str]:
        turn = self.periods % self._camera_periods
        names = list(CAMERAS)[turn : turn + 1]
        for name in names:
            self.frames[name] = self._raw.draw(CAMERAS[name], self._env.image_size_px)[::-1, ::-1]
        return names
