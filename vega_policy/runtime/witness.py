"""What every limit means, written a second time: it watches commands and shares no code with the guard.

The guard's property tests and the fault drills judge by it.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from vega_policy.runtime.limits import Limits
from vega_policy.runtime.robots.base import ArmState, Command

Vector = Float[np.ndarray, " 3"]
EPS, EPS_PER_S = 1e-9, 1e-6  # of displacements, and of their derivatives


class Witness:
    """Remembers the commands that were sent, and says which limits the next one breaks.

    Args:
        limits: the arm's.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._width_m: float | None = None
        self.stands()

    def stands(self) -> None:
        """The arm holds or has stopped."""
        self._speeds: dict[str, Vector] = {"m": np.zeros(3), "rad": np.zeros(3)}
        self._accelerations: dict[str, Vector] = {"m": np.zeros(3), "rad": np.zeros(3)}

    def sees(self, sent: Command, measured: ArmState, dt_s: float) -> list[str]:
        """Names the limits that a command breaks.

        Args:
            sent: the command.
            measured: the state to which it was the answer.
            dt_s: the time it is given.
        """
        steps = (sent.translation_m, sent.rotation_rad)
        if any(np.shape(step) != (3,) or not np.isfinite(step).all() for step in steps):
            return ["finite numbers"]
        return [
            *self._in_motion("m", sent.translation_m, dt_s),
            *self._in_motion("rad", sent.rotation_rad, dt_s),
            *self._in_place(sent, measured),
            *self._in_gripper(sent.gripper_width_m, measured, dt_s),
        ]

    def _in_place(self, sent: Command, measured: ArmState) -> Iterator[str]:
        limits, target_m = self._limits, measured.position_m + sent.translation_m
        is_above = (target_m > np.asarray(limits.workspace_high_m) + EPS) & (sent.translation_m > 0)
        is_below = (target_m < np.asarray(limits.workspace_low_m) - EPS) & (sent.translation_m < 0)
        if np.any(is_above | is_below):
            yield "workspace"
        low_rad, high_rad = np.asarray(limits.joint_low_rad), np.asarray(limits.joint_high_rad)
        margins_rad = np.minimum(measured.joints_rad - low_rad, high_rad - measured.joints_rad)
        if not np.all(margins_rad >= limits.joint_margin_rad):
            yield "joint margin"

    def _in_gripper(self, width_m: float, measured: ArmState, dt_s: float) -> Iterator[str]:
        widest_m = self._limits.max_gripper_width_m
        last_m = np.clip(measured.gripper_width_m if self._width_m is None else self._width_m, 0, widest_m)
        if not 0 <= width_m <= widest_m:
            yield "gripper width"
        if not abs(width_m - last_m) <= self._limits.max_gripper_speed_m_per_s * dt_s + EPS:
            yield "gripper speed"
        self._width_m = width_m

    def _in_motion(self, unit: str, step: Vector, dt_s: float) -> Iterator[str]:
        names = (f"step_{unit}", f"speed_{unit}_per_s", f"acceleration_{unit}_per_s2", f"jerk_{unit}_per_s3")
        most_step, most_speed, most_acceleration, most_jerk = (
            getattr(self._limits, f"max_{name}") for name in names
        )
        if not np.linalg.norm(step) <= min(most_step, most_speed * dt_s) + EPS:
            yield f"step or speed ({unit})"
        speed, last = step / dt_s, self._speeds[unit]
        acceleration = (speed - last) / dt_s
        is_braking = (np.abs(speed) <= np.abs(last) + EPS) & (speed * last >= 0)
        if not np.all(is_braking | (np.abs(acceleration) <= most_acceleration + EPS_PER_S)):
            yield f"acceleration ({unit})"
        change = acceleration - self._accelerations[unit]
        # A component that shrinks within its sign is slowing down, or speeds up less than it might have.
        is_slower = (speed == 0) | (np.sign(speed) == -np.sign(change))
        if not np.all(is_slower | (np.abs(change) <= most_jerk * dt_s + EPS_PER_S)):
            yield f"jerk ({unit})"
        self._speeds[unit] = speed
        self._accelerations[unit] = np.clip(acceleration, -most_acceleration, most_acceleration)
