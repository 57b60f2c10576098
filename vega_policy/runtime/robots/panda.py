"""A Franka Panda in LIBERO's convention, above a driver so small that anybody can write it.

The driver moves the arm by a delta pose and brakes; Deoxys and franky both have such calls. What must not be
left to each driver is here: standing still is a servo on the pose at which it began, since an endless row of
zero deltas lets a compliant arm sag, and it never closes or opens the gripper.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from scipy.spatial.transform import Rotation

from vega_policy.runtime.faults import is_pose
from vega_policy.runtime.limits import Limits
from vega_policy.runtime.robots.base import ArmState, Command, Frame, Reading

RETURN_M, RETURN_RAD = 0.1, 0.5
"""From farther away a hold does not bring an arm back: more than a sag or push, less than being led away."""


@dataclass(frozen=True)
class HoldStep:
    """How far an arm that was pushed away while holding returns in a period, at most.

    Attributes:
        length_m: of the translation.
        angle_rad: of the rotation.
    """

    length_m: float = 0.02
    angle_rad: float = 0.1

    @classmethod
    def within(cls, limits: Limits, period_s: float) -> Self:
        """No farther than the guard would let a command go."""
        return cls(
            min(cls.length_m, limits.max_step_m, limits.max_speed_m_per_s * period_s),
            min(cls.angle_rad, limits.max_step_rad, limits.max_speed_rad_per_s * period_s),
        )


class PandaDriver(Protocol):
    """What somebody with a Panda writes. No method may block; errors of the device are `OSError`."""

    def read(self) -> ArmState:
        """The newest state, with the time on the control loop's clock at which it was measured."""
        ...

    def move(self, command: Command) -> Command:
        """Starts a displacement from the pose measured now, ends an earlier one, and sets the gripper.

        Returns:
            What was sent, after limits of the driver's own.
        """
        ...

    def stop(self) -> None:
        """Ends motion as fast as the arm safely can; a later `move` may set it going again."""
        ...


class Camera(Protocol):
    """What somebody with cameras writes."""

    def newest(self) -> Frame:
        """The newest picture at hand, upright RGB, with the time at which it was *taken*."""
        ...


class Panda:
    """A driver and cameras as a `Robot`.

    Args:
        driver: of the arm and its gripper.
        cameras: by name.
        hold_step: bounds the servo that stands still, whose commands come after the guard.
    """

    def __init__(
        self, driver: PandaDriver, cameras: Mapping[str, Camera], hold_step: HoldStep | None = None
    ) -> None:
        self._driver, self._cameras = driver, dict(cameras)
        self._hold_step = hold_step or HoldStep()
        self._held: ArmState | None = None
        self._width_m: float | None = None  # last asked for

    def read(self) -> Reading:
        """The driver's state and each camera's frame."""
        return Reading(self._driver.read(), {name: camera.newest() for name, camera in self._cameras.items()})

    def command(self, command: Command) -> Command:
        """Passes a displacement on."""
        self._held = None
        sent = self._driver.move(command)
        self._width_m = sent.gripper_width_m
        return sent

    def hold(self) -> None:
        """Goes back to the pose at which holding began; stops if the arm does not know where it is.

        An arm that is found far from there was moved by somebody, and one whose driver refuses to move is in
        other hands for now: it stays where it is found.
        """
        now = self._driver.read()
        if not is_pose(now, np.size(now.joints_rad)):
            self.stop()
            return
        held, self._held = self._held_near(now), None
        if self._width_m is None:
            self._width_m = now.gripper_width_m
        self._driver.move(
            Command(
                _shortened(held.position_m - now.position_m, self._hold_step.length_m),
                _shortened(_turn_rad(held.rotation, now.rotation), self._hold_step.angle_rad),
                self._width_m,
            )
        )
        self._held = held

    def _held_near(self, now: ArmState) -> ArmState:
        if self._held is None:
            return now
        away_m = float(np.linalg.norm(self._held.position_m - now.position_m))
        away_rad = float(np.linalg.norm(_turn_rad(self._held.rotation, now.rotation)))
        return self._held if away_m <= RETURN_M and away_rad <= RETURN_RAD else now

    def stop(self) -> None:
        """Brakes; a later hold begins where the arm stands then."""
        self._held = None
        self._driver.stop()


def _turn_rad(target: np.ndarray, now: np.ndarray) -> np.ndarray:
    """The rotation vector in the base frame that takes one orientation into another."""
    turn: np.ndarray = Rotation.from_matrix(target @ now.T).as_rotvec()
    return turn


def _shortened(vector: np.ndarray, longest: float) -> np.ndarray:
    return vector * min(1.0, longest / max(float(np.linalg.norm(vector)), 1e-9))
