"""The one place through which every command to an arm passes.

`Guard.step` is a pure function: what it must remember comes in and goes out as a `Memory`. Each limit on
motion is an interval or a ball that contains standing still, and meeting it only ever brings a component
closer to zero. So no limit undoes another, and there is always something safe to send: slowing down is never
forbidden for the sake of smoothness (an arm's own controller smooths below us, libfranka's at 1 kHz).

Faults stay latched, whatever comes later, until a person clears them by starting from a fresh `Memory`.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vega_policy.runtime.faults import (
    Fault,
    SafeAction,
    Tick,
    find_command_faults,
    find_state_faults,
    find_timing_faults,
    is_pose,
)
from vega_policy.runtime.limits import Limits
from vega_policy.runtime.robots.base import ArmState, Command

Vector = Float[np.ndarray, " 3"]
AT_REST = 1e-9  # m/s or rad/s: what rounding leaves


@dataclass(frozen=True)
class Intervention:
    """A limit that changed a command: the length asked for and the length allowed, in m or rad."""

    limit: str
    asked: float
    allowed: float

    def __str__(self) -> str:
        return f"{self.limit}: asked {self.asked:.4g}, allowed {self.allowed:.4g}"


@dataclass(frozen=True, eq=False)
class Motion:
    """The speed and acceleration last asked of the arm, of translation (m) or rotation (rad)."""

    speed: Vector = field(default_factory=lambda: np.zeros(3))
    acceleration: Vector = field(default_factory=lambda: np.zeros(3))


@dataclass(frozen=True, eq=False)
class Memory:
    """What the guard carries from tick to tick. A fresh one is an arm at rest and no fault."""

    began_s: float | None = None
    tick_s: float | None = None
    command_s: float | None = None
    measured: ArmState | None = None
    translation: Motion = field(default_factory=Motion)
    rotation: Motion = field(default_factory=Motion)
    gripper_width_m: float | None = None
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, eq=False)
class Decision:
    """What to do in this tick.

    Attributes:
        command: to be sent; None for the robot's hold() or stop().
        safe_action: None while the policy's own commands are sent; a slow stop is commands, then holds.
        interventions: every limit that changed the command.
        new_faults: found in this tick, not latched before.
        memory: for the next tick, with all latched faults.
    """

    command: Command | None
    safe_action: SafeAction | None
    interventions: tuple[Intervention, ...]
    new_faults: tuple[Fault, ...]
    memory: Memory


class _Bounds(NamedTuple):
    """The limits on one kind of motion, translation or rotation."""

    name: str
    step: float
    speed: float
    acceleration: float
    jerk: float


@dataclass(frozen=True)
class Guard:
    """Limits commands and answers faults.

    Attributes:
        limits: the arm's.
        period_s: of the control loop; a command is taken to be executed within it.
    """

    limits: Limits
    period_s: float

    def __post_init__(self) -> None:
        if not 0 < self.period_s < self.limits.max_tick_s:
            raise ValueError(
                f"period_s must be positive and below limits.max_tick_s, which is {self.limits.max_tick_s}; "
                f"got {self.period_s}"
            )

    def step(self, memory: Memory, tick: Tick) -> Decision:
        """Decides what the arm does in this tick."""
        new_faults = self._new_faults(memory, tick)
        faults = memory.faults + new_faults
        known = memory.measured
        if tick.measured is not None and is_pose(tick.measured, len(self.limits.joint_low_rad)):
            known = tick.measured
        asked, answer = self._answer(memory, tick, faults)
        command_s = tick.now_s if answer is None else memory.command_s
        began_s = tick.now_s if memory.began_s is None else memory.began_s
        seen = replace(
            memory, began_s=began_s, tick_s=tick.now_s, command_s=command_s, measured=known, faults=faults
        )
        if asked is None or known is None:
            at_rest = replace(seen, translation=Motion(), rotation=Motion())
            return Decision(None, answer, (), new_faults, at_rest)
        dt_s = self._elapsed_s(memory, tick)
        command, interventions, moving = self._limited(asked, known, dt_s, seen)
        return Decision(command, answer, interventions, new_faults, moving)

    def _answer(
        self, memory: Memory, tick: Tick, faults: tuple[Fault, ...]
    ) -> tuple[Command | None, SafeAction | None]:
        """What to ask of the arm, and the safe action that this is part of."""
        if not faults and tick.command is not None:
            return tick.command, None
        answer = max((fault.safe_action for fault in faults), default=SafeAction.SLOW_STOP)
        if answer is not SafeAction.SLOW_STOP:
            return None, answer
        slower = self._slowing_down(memory, tick.now_s)
        return slower, SafeAction.HOLD if slower is None else SafeAction.SLOW_STOP

    def _new_faults(self, memory: Memory, tick: Tick) -> tuple[Fault, ...]:
        # A fault that is latched explains why no command comes.
        command_s, began_s = (memory.command_s, memory.began_s) if not memory.faults else (None, None)
        found = (
            *find_timing_faults(self.limits, tick.now_s, memory.tick_s),
            *find_state_faults(self.limits, tick.now_s, tick.measured, memory.measured, self.period_s),
            *find_command_faults(self.limits, tick, command_s, began_s),
        )
        latched = {fault.kind for fault in memory.faults}
        return tuple(fault for fault in found if fault.kind not in latched)

    def _elapsed_s(self, memory: Memory, tick: Tick) -> float:
        """A tick that comes early must not go as far as one on time; one that is late must not go farther."""
        return min(tick.now_s - memory.tick_s, self.period_s) if memory.tick_s is not None else self.period_s

    def _limited(
        self, asked: Command, measured: ArmState, dt_s: float, memory: Memory
    ) -> tuple[Command, tuple[Intervention, ...], Memory]:
        interventions: list[Intervention] = []
        translation_m = _limit(
            asked.translation_m, memory.translation, self._translation, dt_s, interventions
        )
        translation_m = self._inside_workspace(translation_m, measured.position_m, interventions)
        rotation_rad = _limit(asked.rotation_rad, memory.rotation, self._rotation, dt_s, interventions)
        width_m = self._gripper_width_m(asked, measured, memory, dt_s, interventions)
        memory = replace(
            memory,
            translation=_after(memory.translation, translation_m, self._translation, dt_s),
            rotation=_after(memory.rotation, rotation_rad, self._rotation, dt_s),
            gripper_width_m=width_m,
        )
        return Command(translation_m, rotation_rad, width_m), tuple(interventions), memory

    def _slowing_down(self, memory: Memory, now_s: float) -> Command | None:
        """The next command of a slow stop; None when the arm is at rest.

        After a stall it is, or nearly: nothing has been asked of it meanwhile.
        """
        width_m = memory.gripper_width_m
        elapsed_s = max(now_s - memory.tick_s, self.period_s) if memory.tick_s is not None else self.period_s
        speeds = [
            _shrunk(motion.speed, max(_length(motion.speed) - bounds.acceleration * elapsed_s, 0.0))
            for motion, bounds in ((memory.translation, self._translation), (memory.rotation, self._rotation))
        ]
        if width_m is None or all(_length(speed) < AT_REST for speed in speeds):
            return None
        return Command(speeds[0] * self.period_s, speeds[1] * self.period_s, width_m)

    @property
    def _translation(self) -> _Bounds:
        limits = self.limits
        speeds = limits.max_speed_m_per_s, limits.max_acceleration_m_per_s2, limits.max_jerk_m_per_s3
        return _Bounds("translation", limits.max_step_m, *speeds)

    @property
    def _rotation(self) -> _Bounds:
        limits = self.limits
        speeds = limits.max_speed_rad_per_s, limits.max_acceleration_rad_per_s2, limits.max_jerk_rad_per_s3
        return _Bounds("rotation", limits.max_step_rad, *speeds)

    def _inside_workspace(self, step_m: Vector, position_m: Vector, log: list[Intervention]) -> Vector:
        """Per axis, so that an arm slides along a wall; from outside only the way back is open."""
        low = np.minimum(np.asarray(self.limits.workspace_low_m) - position_m, 0.0)
        high = np.maximum(np.asarray(self.limits.workspace_high_m) - position_m, 0.0)
        return _logged("workspace", step_m, np.clip(step_m, low, high), log)

    def _gripper_width_m(
        self, asked: Command, measured: ArmState, memory: Memory, dt_s: float, log: list[Intervention]
    ) -> float:
        widest_m = self.limits.max_gripper_width_m
        last_m = measured.gripper_width_m if memory.gripper_width_m is None else memory.gripper_width_m
        last_m = min(max(last_m, 0.0), widest_m)
        reach_m = self.limits.max_gripper_speed_m_per_s * dt_s
        low_m, high_m = max(last_m - reach_m, 0.0), min(last_m + reach_m, widest_m)
        allowed_m = float(min(max(asked.gripper_width_m, low_m), high_m))
        if allowed_m != asked.gripper_width_m:
            log.append(Intervention("gripper", float(asked.gripper_width_m), allowed_m))
        return allowed_m


def _limit(asked: Vector, last: Motion, bounds: _Bounds, dt_s: float, log: list[Intervention]) -> Vector:
    """The displacement allowed; every line brings components closer to zero."""
    step = np.asarray(asked, np.float64)
    limit, longest = min(("step", bounds.step), ("speed", bounds.speed * dt_s), key=lambda pair: pair[1])
    step = _logged(f"{bounds.name} {limit}", step, _shrunk(step, longest), log)
    change = bounds.acceleration * dt_s
    within = _clipped(step, (last.speed - change) * dt_s, (last.speed + change) * dt_s)
    step = _logged(f"{bounds.name} acceleration", step, within, log)
    expected, change = last.speed + last.acceleration * dt_s, bounds.jerk * dt_s**2
    within = _clipped(step, (expected - change) * dt_s, (expected + change) * dt_s)
    return _logged(f"{bounds.name} jerk", step, within, log)


def _after(last: Motion, step: Vector, bounds: _Bounds, dt_s: float) -> Motion:
    """What to remember of a displacement; a hard brake counts as the hardest acceleration allowed."""
    speed = step / dt_s
    acceleration = np.clip((speed - last.speed) / dt_s, -bounds.acceleration, bounds.acceleration)
    return Motion(speed, acceleration)


def _clipped(step: Vector, low: Vector, high: Vector) -> Vector:
    return np.clip(step, np.minimum(low, 0.0), np.maximum(high, 0.0))


def _length(vector: Vector) -> float:
    """The norm, which does not overflow for numbers whose squares would."""
    largest = float(np.abs(vector).max())
    return largest * float(np.linalg.norm(vector / largest)) if largest > 0 else 0.0


def _shrunk(vector: Vector, longest: float) -> Vector:
    length = _length(vector)
    return vector * (longest / length) if length > longest else vector


def _logged(limit: str, asked: Vector, allowed: Vector, log: list[Intervention]) -> Vector:
    if not np.array_equal(asked, allowed):
        log.append(Intervention(limit, _length(asked), _length(allowed)))
    return allowed
