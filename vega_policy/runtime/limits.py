"""The numbers within which the safety guard keeps an arm; none has a default, its YAML states them all."""

from dataclasses import dataclass, fields

import numpy as np


@dataclass
class Limits:
    """Bounds on commands and on what may be measured. All must be positive unless said otherwise.

    Speeds are those *asked for*: displacement over period. A compliant controller moves slower than that, so
    the measured speed has bounds of its own. (robosuite's OSC, critically damped with kp = 150, follows a
    constant displacement d at kp d / (2 sqrt(kp)) = 6.1 d per second: 0.31 of what 20 Hz asks for.)

    Attributes:
        max_step_m: length of one displacement, whatever the rate.
        max_step_rad: angle of one displacement.
        max_speed_m_per_s: asked for.
        max_speed_rad_per_s: asked for.
        max_acceleration_m_per_s2: change of the speed asked for, per axis; slowing down is always allowed.
        max_acceleration_rad_per_s2: likewise for rotation.
        max_jerk_m_per_s3: change of that acceleration, per axis; slowing down is always allowed.
        max_jerk_rad_per_s3: likewise for rotation.
        max_measured_speed_m_per_s: a faster end effector is a fault.
        max_measured_speed_rad_per_s: likewise for rotation.
        workspace_low_m: lower corner of the box, in the base frame, that the end effector may be sent into.
        workspace_high_m: its upper corner.
        workspace_tolerance_m: an end effector measured farther outside the box is a fault.
        joint_low_rad: mechanical limits, base first.
        joint_high_rad: mechanical limits, base first.
        joint_margin_rad: a joint measured closer to its limit is a fault.
        max_gripper_width_m: the open gripper.
        max_gripper_speed_m_per_s: change of the width asked for.
        max_state_age_s: of the measured state.
        max_frame_age_s: of the oldest camera's newest frame.
        max_chunk_age_s: since the observation from which the playing chunk was computed.
        max_gap_s: how long the arm may hold for want of a command before that is a fault.
        max_first_answer_s: the same before a policy's first command, at the start and after each `go`.
        max_tick_s: time between two ticks of the control loop.
    """

    max_step_m: float
    max_step_rad: float
    max_speed_m_per_s: float
    max_speed_rad_per_s: float
    max_acceleration_m_per_s2: float
    max_acceleration_rad_per_s2: float
    max_jerk_m_per_s3: float
    max_jerk_rad_per_s3: float
    max_measured_speed_m_per_s: float
    max_measured_speed_rad_per_s: float
    workspace_low_m: tuple[float, float, float]
    workspace_high_m: tuple[float, float, float]
    workspace_tolerance_m: float
    joint_low_rad: tuple[float, ...]
    joint_high_rad: tuple[float, ...]
    joint_margin_rad: float
    max_gripper_width_m: float
    max_gripper_speed_m_per_s: float
    max_state_age_s: float
    max_frame_age_s: float
    max_chunk_age_s: float
    max_gap_s: float
    max_first_answer_s: float
    max_tick_s: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value = np.asarray(getattr(self, field.name), np.float64)
            if not np.isfinite(value).all() or (value.ndim == 0 and value <= 0):
                raise ValueError(
                    f"limits.{field.name} must be finite and, if one number, positive; got {value}"
                )
        self._refuse_empty("workspace_low_m", "workspace_high_m", 0.0)
        self._refuse_empty("joint_low_rad", "joint_high_rad", 2 * self.joint_margin_rad)

    def _refuse_empty(self, low: str, high: str, margins: float) -> None:
        lows, highs = getattr(self, low), getattr(self, high)
        if len(lows) != len(highs) or any(b - a <= margins for a, b in zip(lows, highs, strict=True)):
            raise ValueError(
                f"limits.{low} must lie below limits.{high}, one by one, by more than {margins}; "
                f"got {lows} and {highs}"
            )
