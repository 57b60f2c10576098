"""What the control loop and an arm say to each other, in SI units and one frame: the arm's base.

The convention is LIBERO's end-effector delta (robosuite's OSC_POSE controller): a command is a displacement
*from the pose measured now*, its rotation an axis-angle vector in the base frame that multiplies the measured
orientation from the left. A zero delta therefore lets a compliant arm sag a little; standing still is the
embodiment's own business, so `hold` has no default.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8


@dataclass(frozen=True, eq=False)
class ArmState:
    """What the arm measured at one moment.

    Attributes:
        time_s: when, on the control loop's clock.
        position_m: end effector in the base frame.
        rotation: end effector's axes as columns, in the base frame.
        joints_rad: joint positions, base first.
        gripper_width_m: distance between the fingers.
    """

    time_s: float
    position_m: Float[np.ndarray, " 3"]
    rotation: Float[np.ndarray, "3 3"]
    joints_rad: Float[np.ndarray, " joints"]
    gripper_width_m: float


@dataclass(frozen=True, eq=False)
class Command:
    """A displacement for one control period, and the width the gripper shall have.

    Attributes:
        translation_m: along the base's axes.
        rotation_rad: axis-angle vector in the base frame.
        gripper_width_m: target distance between the fingers.
    """

    translation_m: Float[np.ndarray, " 3"]
    rotation_rad: Float[np.ndarray, " 3"]
    gripper_width_m: float


@dataclass(frozen=True, eq=False)
class Frame:
    """One upright RGB picture and the moment it was taken, on the control loop's clock."""

    pixels: UInt8[np.ndarray, "height width 3"]
    time_s: float


@dataclass(frozen=True, eq=False)
class Reading:
    """The newest state and the newest frame of every camera, by the camera's name."""

    state: ArmState
    frames: Mapping[str, Frame]


class Robot(Protocol):
    """An arm. No method may block longer than a fraction of the control period.

    Errors of the device are `OSError` (of which `TimeoutError` and `ConnectionError` are kinds); the control
    loop takes any of them as an arm that stopped answering.
    """

    def read(self) -> Reading:
        """The newest measurements at hand, with the times they were taken, not the time of this call."""
        ...

    def command(self, command: Command) -> Command:
        """Starts the displacement and returns what was really sent, after the driver's own limits."""
        ...

    def hold(self) -> None:
        """Stands still where the arm is and keeps the grasp; safe to repeat every period."""
        ...

    def stop(self) -> None:
        """Ends motion as fast as the arm safely can, brakes included; safe to repeat every period."""
        ...


@dataclass
class EndEffectorDelta:
    """How an action of seven numbers in [-1, 1] becomes a command.

    The defaults are robosuite's OSC_POSE controller, which LIBERO uses: full scale is 0.05 m and 0.5 rad per
    period, and a gripper of +1 closes.

    Attributes:
        translation_scale_m: displacement of a full-scale translation.
        rotation_scale_rad: angle of a full-scale rotation about one axis.
        open_width_m: width of the open gripper; the Franka Hand's is 0.08 m.
    """

    translation_scale_m: float = 0.05
    rotation_scale_rad: float = 0.5
    open_width_m: float = 0.08

    def command(self, action: Float[np.ndarray, " 7"]) -> Command:
        """Scales; nothing is clipped or checked here, that is the guard's work.

        Raises:
            ValueError: There are not seven numbers.
        """
        if np.shape(action) != (7,):
            raise ValueError(
                f"expected an action of shape (7,), got {np.shape(action)}: check the policy's head"
            )
        return Command(
            np.asarray(action[:3], np.float64) * self.translation_scale_m,
            np.asarray(action[3:6], np.float64) * self.rotation_scale_rad,
            float(action[6] * -0.5 + 0.5) * self.open_width_m,
        )
