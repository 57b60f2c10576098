"""Whatever comes in, in whatever order, no command leaves the guard that is outside the limits.

The check is `Witness`, written anew from the limits' meaning; it shares no code with the guard.
"""

from dataclasses import replace

import numpy as np
import pytest
from fake_arm import PANDA, READY_RAD, state
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vega_policy.runtime.faults import Tick
from vega_policy.runtime.robots.base import ArmState, Command
from vega_policy.runtime.safety import Guard, Memory
from vega_policy.runtime.witness import Witness

PERIOD_S = 1 / PANDA.rate_hz
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


SQUARES = vectors(WILD, 9).map(lambda numbers: numbers.reshape(3, 3))
TURNS = vectors(st.floats(-3.0, 3.0)).map(lambda turn: Rotation.from_rotvec(turn).as_matrix())
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
        "rotation": mostly(st.just(np.diag([1.0, -1.0, -1.0])), TURNS | SQUARES | SHAPES),
        "width_m": mostly(st.floats(-0.01, 0.09), WILD),
        "is_cleared": st.booleans(),
        "silent": mostly(st.just(False), st.just(True)),
        "ages_s": mostly(st.just((0.0, 0.0, 0.0)), st.tuples(WILD, WILD, WILD)),
    }
)


def measure(now_s: float, position_m: np.ndarray, drawn: dict) -> ArmState:
    changes = {name: drawn[name] for name in ("rotation", "joints_rad")}
    return state(now_s - drawn["ages_s"][0], position_m, gripper_width_m=drawn["width_m"], **changes)


@settings(max_examples=60, deadline=None)
@given(drawn=st.lists(TICKS, min_size=1, max_size=25))
def test_no_sequence_of_inputs_makes_a_command_outside_the_limits(drawn: list[dict]) -> None:
    guard, memory, witness = Guard(LIMITS, PERIOD_S), Memory(), Witness(LIMITS)
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
            assert witness.sees(decision.command, measured, dt_s) == []
        memory = decision.memory
        if faulted and one["is_cleared"]:
            faulted, memory, witness = False, Memory(), Witness(LIMITS)
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


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({"translation_m": [0.0, np.nan, 0.0]}, ["finite numbers"]),
        ({"translation_m": [0.02, 0.0, 0.0]}, []),
        ({"translation_m": [0.04, 0.0, 0.0]}, ["workspace"]),
        ({"translation_m": [-0.005, 0.0, 0.0]}, ["jerk (m)"]),
        ({"translation_m": [-0.02, 0.0, 0.0]}, ["acceleration (m)", "jerk (m)"]),
        ({"translation_m": [0.0, 0.0, 0.0]}, []),
        (
            {"translation_m": [0.0, 0.06, 0.0]},
            ["step or speed (m)", "acceleration (m)", "jerk (m)", "workspace"],
        ),
        ({"rotation_rad": [0.0, 0.2, 0.0]}, ["step or speed (rad)", "acceleration (rad)", "jerk (rad)"]),
        ({"gripper_width_m": 0.06}, ["gripper speed"]),
        ({"gripper_width_m": 0.081}, ["gripper width"]),
    ],
)
def test_the_witness_names_what_a_command_breaks(changes: dict, broken: list[str]) -> None:
    witness = Witness(LIMITS)
    parts = {"translation_m": [0.015, 0.0, 0.0], "rotation_rad": np.zeros(3), "gripper_width_m": 0.08}
    first, second = (
        Command(np.array(p["translation_m"]), np.array(p["rotation_rad"]), p["gripper_width_m"])
        for p in (parts, {**parts, **changes})
    )
    assert witness.sees(first, state(0.0), PERIOD_S) == []
    assert witness.sees(second, state(0.05), PERIOD_S) == broken


def test_the_witness_wants_joints_away_from_their_limits_where_the_arm_moves() -> None:
    joints_rad = np.array([0, 0, 0, -0.1, 0, 2, 0])
    still = Command(np.zeros(3), np.zeros(3), 0.08)
    assert Witness(LIMITS).sees(still, state(joints_rad=joints_rad), PERIOD_S) == ["joint margin"]
