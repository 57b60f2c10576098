"""What can be wrong in one tick of the control loop, and the safe action that answers it.

Every check is written so that NaN fails it: `not (age <= limit)`, never `age > limit`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import IntEnum, StrEnum

import numpy as np

from vega_policy.runtime.limits import Limits
from vega_policy.runtime.robots.base import ArmState, Command


class SafeAction(IntEnum):
    """Answers to a fault, mildest first; with several faults the strictest counts."""

    SLOW_STOP = 1  # let the speed asked for run out within the acceleration limit, then hold
    HOLD = 2  # the robot's hold(), at once
    STOP = 3  # the robot's stop()


class FaultKind(StrEnum):
    """Names of the faults."""

    CLOCK = "clock stood still or ran backwards"
    LATE_TICK = "control loop was late"
    ROBOT_SILENT = "robot did not answer"
    STATE_INVALID = "measured state is not a finite pose"
    STATE_STALE = "measured state is too old, from the future or out of order"
    OVERSPEED = "arm moved faster than allowed"
    JOINT_MARGIN = "a joint is too close to its limit"
    OUTSIDE_WORKSPACE = "end effector is outside the workspace"
    COMMAND_INVALID = "command is not seven finite numbers"
    FRAME_STALE = "a camera's frame is too old or from the future"
    CHUNK_STALE = "chunk is too old or from the future"
    POLICY_REFUSED = "policy refuses to answer"
    NO_COMMAND = "no command for too long"


SAFE_ACTIONS = {
    FaultKind.CLOCK: SafeAction.STOP,
    FaultKind.LATE_TICK: SafeAction.SLOW_STOP,
    FaultKind.ROBOT_SILENT: SafeAction.STOP,
    FaultKind.STATE_INVALID: SafeAction.STOP,
    FaultKind.STATE_STALE: SafeAction.STOP,
    FaultKind.OVERSPEED: SafeAction.STOP,
    FaultKind.JOINT_MARGIN: SafeAction.HOLD,
    FaultKind.OUTSIDE_WORKSPACE: SafeAction.HOLD,
    FaultKind.COMMAND_INVALID: SafeAction.HOLD,
    FaultKind.FRAME_STALE: SafeAction.SLOW_STOP,
    FaultKind.CHUNK_STALE: SafeAction.SLOW_STOP,
    FaultKind.POLICY_REFUSED: SafeAction.SLOW_STOP,
    FaultKind.NO_COMMAND: SafeAction.SLOW_STOP,
}

STAYS = "it comes back at once: end the run, bring the arm back with its own tools or by hand, and start anew"
ADVICE = {
    FaultKind.JOINT_MARGIN: f"while the joint is there, {STAYS}",
    FaultKind.OUTSIDE_WORKSPACE: f"while the arm is there, {STAYS}",
    FaultKind.POLICY_REFUSED: "it is asked anew after go; its words above say what to change first",
}
"""What a person should know before clearing a fault."""


@dataclass(frozen=True)
class Fault:
    """One thing found wrong.

    Attributes:
        kind: what.
        at_s: when it was found.
        value: the number found, in the unit of `limit`; NaN where there is none.
        limit: the number it should not pass.
        detail: what was found where that is not one number.
    """

    kind: FaultKind
    at_s: float
    value: float = float("nan")
    limit: float = float("nan")
    detail: str = ""

    @property
    def safe_action(self) -> SafeAction:
        """The answer to this fault."""
        return SAFE_ACTIONS[self.kind]

    @property
    def advice(self) -> str:
        """What a person should know before clearing it; often nothing."""
        return ADVICE.get(self.kind, "")

    @property
    def found(self) -> str:
        """What was found, in words; nothing where the kind says it all."""
        if self.detail or np.isnan(self.limit):
            return self.detail
        return f"found {self.value:.4g}, limit {self.limit:.4g}"

    def __str__(self) -> str:
        return f"{self.kind}{self.found and f' ({self.found})'}: {self.safe_action.name}"


@dataclass(frozen=True, eq=False)
class Tick:
    """Everything the guard sees in one tick; times are on the control loop's clock.

    Attributes:
        now_s: when.
        command: what the policy asks for; None when there is nothing to play.
        measured: the newest state; None when the robot did not answer.
        frame_time_s: when the oldest camera's newest frame was taken; None without cameras' answer.
        chunk_time_s: when the observation behind the playing chunk was taken; None without a chunk.
        refusal: why the policy will not answer, however often it is asked; None if it may.
    """

    now_s: float
    command: Command | None = None
    measured: ArmState | None = None
    frame_time_s: float | None = None
    chunk_time_s: float | None = None
    refusal: str | None = None


def find_timing_faults(limits: Limits, now_s: float, last_s: float | None) -> Iterator[Fault]:
    """The watchdog on the loop itself."""
    elapsed_s = now_s - last_s if last_s is not None else limits.max_tick_s
    if not 0 < elapsed_s < np.inf:
        yield Fault(FaultKind.CLOCK, now_s, elapsed_s, 0.0)
    elif elapsed_s > limits.max_tick_s:
        yield Fault(FaultKind.LATE_TICK, now_s, elapsed_s, limits.max_tick_s)


def find_state_faults(
    limits: Limits, now_s: float, state: ArmState | None, last: ArmState | None, period_s: float
) -> Iterator[Fault]:
    """What the measured state says against moving; `last` is the last sound one."""
    if state is None:
        yield Fault(FaultKind.ROBOT_SILENT, now_s)
    elif not is_pose(state, len(limits.joint_low_rad)):
        yield Fault(FaultKind.STATE_INVALID, now_s, detail=_shown(state))
    else:
        yield from _find_age_fault(FaultKind.STATE_STALE, now_s, state.time_s, limits.max_state_age_s)
        yield from _find_place_faults(limits, now_s, state)
        if last is not None:
            yield from _find_motion_faults(limits, now_s, state, last, period_s)


def find_command_faults(
    limits: Limits, tick: Tick, last_command_s: float | None, began_s: float | None
) -> Iterator[Fault]:
    """What the cameras and the command, or the want of one, say against moving.

    Args:
        limits: the arm's.
        tick: what was seen.
        last_command_s: when the last command came; None before the first.
        began_s: since when the first is waited for; None in the first tick.
    """
    if tick.refusal is not None:
        yield Fault(FaultKind.POLICY_REFUSED, tick.now_s, detail=tick.refusal)
    if tick.measured is not None or tick.command is not None:  # else the robot is silent, and says more
        yield from _find_age_fault(
            FaultKind.FRAME_STALE, tick.now_s, tick.frame_time_s, limits.max_frame_age_s
        )
    if tick.command is None:
        is_first = last_command_s is None
        since_s, limit_s = (
            (began_s, limits.max_first_answer_s) if is_first else (last_command_s, limits.max_gap_s)
        )
        gap_s = tick.now_s - since_s if since_s is not None else 0.0
        if not gap_s <= limit_s:
            yield Fault(FaultKind.NO_COMMAND, tick.now_s, gap_s, limit_s)
        return
    if not is_command(tick.command):
        yield Fault(FaultKind.COMMAND_INVALID, tick.now_s, detail=_shown(tick.command))
    yield from _find_age_fault(FaultKind.CHUNK_STALE, tick.now_s, tick.chunk_time_s, limits.max_chunk_age_s)


def is_pose(state: ArmState, num_joints: int) -> bool:
    """Whether a state is finite numbers of the right shapes with a proper rotation."""
    shapes = ((state.position_m, (3,)), (state.rotation, (3, 3)), (state.joints_rad, (num_joints,)))
    if not all(_is_finite(value, shape) for value, shape in (*shapes, (state.gripper_width_m, ()))):
        return False
    rotation = np.clip(state.rotation, -2.0, 2.0)  # so that no product overflows
    return bool(np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) and np.linalg.det(rotation) > 0)


def is_command(command: Command) -> bool:
    """Whether a command is finite numbers of the right shapes."""
    parts = ((command.translation_m, (3,)), (command.rotation_rad, (3,)), (command.gripper_width_m, ()))
    return all(_is_finite(value, shape) for value, shape in parts)


def _shown(found: ArmState | Command) -> str:
    """The numbers of a state or a command, whatever they are instead of numbers, in one line."""
    values = ((field.name, repr(getattr(found, field.name))) for field in fields(found))
    return "found " + ", ".join(f"{name} {' '.join(value.split()):.100}" for name, value in values)


def _is_finite(value: object, shape: tuple[int, ...]) -> bool:
    if not isinstance(value, np.ndarray | float | int | np.number) or np.shape(value) != shape:
        return False
    array = np.asarray(value)
    return array.dtype.kind in "fiu" and bool(np.isfinite(array).all())


def _find_age_fault(kind: FaultKind, now_s: float, time_s: float | None, limit_s: float) -> Iterator[Fault]:
    age_s = now_s - time_s if time_s is not None else np.inf
    if not 0 <= age_s <= limit_s:
        yield Fault(kind, now_s, age_s, limit_s)


def _find_place_faults(limits: Limits, now_s: float, state: ArmState) -> Iterator[Fault]:
    low, high = np.asarray(limits.joint_low_rad), np.asarray(limits.joint_high_rad)
    margin_rad = float(np.minimum(state.joints_rad - low, high - state.joints_rad).min())
    if not margin_rad >= limits.joint_margin_rad:
        yield Fault(FaultKind.JOINT_MARGIN, now_s, margin_rad, limits.joint_margin_rad)
    low, high = np.asarray(limits.workspace_low_m), np.asarray(limits.workspace_high_m)
    outside_m = float(np.maximum(low - state.position_m, state.position_m - high).max())
    if not outside_m <= limits.workspace_tolerance_m:
        yield Fault(FaultKind.OUTSIDE_WORKSPACE, now_s, outside_m, limits.workspace_tolerance_m)


def _find_motion_faults(
    limits: Limits, now_s: float, state: ArmState, last: ArmState, period_s: float
) -> Iterator[Fault]:
    elapsed_s = state.time_s - last.time_s
    if elapsed_s < 0:
        yield Fault(FaultKind.STATE_STALE, now_s, elapsed_s, 0.0)
        return
    # Two samples taken in quick succession would turn sensor noise into speed.
    elapsed_s = max(elapsed_s, period_s / 2)
    measured = (
        (float(np.linalg.norm(state.position_m - last.position_m)), limits.max_measured_speed_m_per_s),
        (_angle_rad(state.rotation @ last.rotation.T), limits.max_measured_speed_rad_per_s),
    )
    for distance, limit in measured:
        if not distance / elapsed_s <= limit:
            yield Fault(FaultKind.OVERSPEED, now_s, distance / elapsed_s, limit)


def _angle_rad(rotation: np.ndarray) -> float:
    return float(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1.0, 1.0)))
