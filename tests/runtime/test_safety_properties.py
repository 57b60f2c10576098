"""Whatever comes in, in whatever order, no command leaves the guard that is outside the limits.

The check is written anew from the limits' meaning; it shares no code with the guard.
"""

from dataclasses import replace

import numpy as np
from fake_arm import PANDA, READY_RAD, state
from hypothesis import given, settings
from hypothesis import strategies as st

from vega_policy.runtime.faults import Tick
from vega_policy.runtime.robots.base import ArmState, Command
from vega_policy.runtime.safety import Guard, Memory

PERIOD_S = 1 / PANDA.rate_hz
EPS = 1e-9
WILD = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([1e308, -1e308, 5e-324])
# Jerk and box so tight that they bind often, measured speed so loose that random walks seldom fault.
LIMITS = replace(
    PANDA.limits,
    max_jerk_m_per_s3=150.0,
    max_jerk_rad_per_s3=300.0,
    workspace_low_m=(0.47, -0.03, 0.27),
    workspace_high_m=(0.53, 0.03, 0.33),
    max_measured_speed_m_per_s=3.0,
)


def mostly(usual: st.SearchStrategy, rare: st.SearchStrategy) -> st.SearchStrategy:
    return st.integers(0, 40).flatmap(lambda n: rare if n == 0 else usual)


def vectors(elements: st.SearchStrategy, size: int = 3) -> st.SearchStrategy:
    return st.lists(elements, min_size=size, max_size=size).map(np.array)


SHAPES = st.sampled_from([(), (1,), (2,), (4,), (3, 1), (1, 3), (0,)]).map(np.zeros)
ODD = vectors(WILD) | SHAPES | st.sampled_from([None, "abc", [0.0, 0.0, 0.0], np.array(["a", "b", "c"])])
ORDINARY = vectors(st.floats(-0.1, 0.1)) | vectors(st.sampled_from([-1.0, 0.0, 1.0, 30.0]))
COMMANDS = st.builds(
    Command, mostly(ORDINARY, ODD), mostly(ORDINARY, ODD), mostly(st.floats(-0.1, 0.2), WILD | st.none())
)
TICKS = st.fixed_dictionaries(
    {
        "elapsed_s": mostly(st.floats(0.02, 0.07), WILD | st.sampled_from([0.0, -1.0, 0.5])),
        "command": mostly(COMMANDS, st.none()),
        "moved_m": mostly(vectors(st.floats(-0.02, 0.02)), ODD),
        "joints_rad": mostly(st.just(READY_RAD), vectors(WILD, 7) | SHAPES),
        "width_m": mostly(st.floats(-0.01, 0.09), WILD),
        "is_cleared": st.booleans(),
        "silent": mostly(st.just(False), st.just(True)),
        "ages_s": mostly(st.just((0.0, 0.0, 0.0)), st.tuples(WILD, WILD, WILD)),
    }
)


def measure(now_s: float, position_m: np.ndarray, drawn: dict) -> ArmState:
    changes = {"joints_rad": drawn["joints_rad"], "gripper_width_m": drawn["width_m"]}
    return state(now_s - drawn["ages_s"][0], position_m, **changes)


class Witness:
    """Remembers the commands that left the guard and what each limit says of the next."""

    def __init__(self) -> None:
        self.width_m: float | None = None
        self.stands()

    def stands(self) -> None:
        self.speeds = {"m": np.zeros(3), "rad": np.zeros(3)}
        self.accelerations = {"m": np.zeros(3), "rad": np.zeros(3)}

    def sees(self, sent: Command, measured: ArmState, dt_s: float) -> None:
        self._motion("m", sent.translation_m, dt_s)
        self._motion("rad", sent.rotation_rad, dt_s)
        target_m = measured.position_m + sent.translation_m
        above, below = target_m - LIMITS.workspace_high_m, LIMITS.workspace_low_m - target_m
        assert np.all((above <= EPS) | (sent.translation_m <= 0))
        assert np.all((below <= EPS) | (sent.translation_m >= 0))
        assert 0 <= sent.gripper_width_m <= LIMITS.max_gripper_width_m
        last_m = np.clip(measured.gripper_width_m if self.width_m is None else self.width_m, 0, 0.08)
        assert abs(sent.gripper_width_m - last_m) <= LIMITS.max_gripper_speed_m_per_s * dt_s + EPS
        self.width_m = sent.gripper_width_m

    def _motion(self, unit: str, step: np.ndarray, dt_s: float) -> None:
        assert step.shape == (3,)
        assert np.isfinite(step).all()
        step_limit, speed_limit, acceleration_limit, jerk_limit = (
            getattr(LIMITS, name)
            for name in (
                f"max_step_{unit}",
                f"max_speed_{unit}_per_s",
                f"max_acceleration_{unit}_per_s2",
                f"max_jerk_{unit}_per_s3",
            )
        )
        assert np.linalg.norm(step) <= min(step_limit, speed_limit * dt_s) + EPS
        speed, last = step / dt_s, self.speeds[unit]
        acceleration = (speed - last) / dt_s
        braking = (np.abs(speed) <= np.abs(last) + EPS) & (speed * last >= 0)
        assert np.all(braking | (np.abs(acceleration) <= acceleration_limit + 1e-6))
        change = acceleration - self.accelerations[unit]
        # A component that shrinks within its sign is slowing down, or speeds up less than it might have.
        slower = (
            (speed == 0) | (np.sign(speed) == -np.sign(change)) | (np.abs(change) <= jerk_limit * dt_s + 1e-6)
        )
        assert np.all(slower)
        self.speeds[unit] = speed
        self.accelerations[unit] = np.clip(acceleration, -acceleration_limit, acceleration_limit)


@settings(max_examples=60, deadline=None)
@given(drawn=st.lists(TICKS, min_size=1, max_size=25))
def test_no_sequence_of_inputs_makes_a_command_outside_the_limits(drawn: list[dict]) -> None:
    guard, memory, witness = Guard(LIMITS, PERIOD_S), Memory(), Witness()
    now_s, position_m, faulted = 0.0, np.array([0.5, 0.0, 0.3]), False
    for one in drawn:
        last_s, now_s = now_s, now_s + one["elapsed_s"]
        moved_m = one["moved_m"]
        broken = not (isinstance(moved_m, np.ndarray) and moved_m.dtype.kind == "f" and moved_m.shape == (3,))
        with np.errstate(all="ignore"):
            position_m = moved_m if broken else position_m + moved_m
        measured = None if one["silent"] else measure(now_s, position_m, one)
        with np.errstate(all="ignore"):
            tick = Tick(now_s, one["command"], measured, now_s - one["ages_s"][1], now_s - one["ages_s"][2])
            decision = guard.step(memory, tick)
        faulted |= bool(decision.new_faults)
        assert not faulted or decision.safe_action is not None
        if decision.command is None:
            assert decision.safe_action is not None
            witness.stands()
        else:
            assert measured is not None
            dt_s = PERIOD_S if memory.tick_s is None else min(now_s - last_s, PERIOD_S)
            witness.sees(decision.command, measured, dt_s)
        memory = decision.memory
        if faulted and one["is_cleared"]:
            faulted, memory, witness = False, Memory(), Witness()
        position_m = np.array([0.5, 0.0, 0.3]) if broken else position_m


@settings(max_examples=40, deadline=None)
@given(commands=st.lists(COMMANDS, min_size=2, max_size=20), start=st.integers(0, 2))
def test_after_a_fault_nothing_the_policy_says_counts(commands: list[Command], start: int) -> None:
    guard, memory = Guard(LIMITS, PERIOD_S), Memory()
    for index, asked in enumerate(commands):
        now_s = index * PERIOD_S
        measured = None if index == start else state(now_s)
        memory = guard.step(memory, Tick(now_s, asked, measured, now_s, now_s)).memory
        if index >= start:
            decision = guard.step(memory, Tick(now_s + PERIOD_S / 2, asked, state(now_s), now_s, now_s))
            assert decision.command is None
