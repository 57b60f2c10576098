"""Each limit and each fault of the guard, one by one; `test_safety_properties` tries everything at once."""

from dataclasses import replace

import numpy as np
import pytest
from fake_arm import PANDA, command, state, tick

from vega_policy.runtime.faults import SAFE_ACTIONS, FaultKind, SafeAction, Tick
from vega_policy.runtime.robots.base import ArmState, Command
from vega_policy.runtime.safety import Decision, Guard, Memory

LIMITS = PANDA.limits
PERIOD_S = 1 / PANDA.rate_hz
GUARD = Guard(LIMITS, PERIOD_S)


def play(*asked: Command | None, memory: Memory | None = None, **changes: object) -> Decision:
    """Ticks on time, all of an arm that does not move; the last decision."""
    memory = memory or Memory()
    start_s = 0.0 if memory.tick_s is None else memory.tick_s + PERIOD_S
    for index, one in enumerate(asked):
        decision = GUARD.step(memory, tick(start_s + index * PERIOD_S, one, **changes))
        memory = decision.memory
    return decision


def limits_met(decision: Decision) -> set[str]:
    return {intervention.limit for intervention in decision.interventions}


def test_a_small_command_passes_untouched() -> None:
    asked = command(0.004, -0.002, roll=0.01)
    decision = play(asked)
    assert decision.command is not None
    np.testing.assert_array_equal(decision.command.translation_m, asked.translation_m)
    np.testing.assert_array_equal(decision.command.rotation_rad, asked.rotation_rad)
    assert (decision.safe_action, decision.interventions, decision.new_faults) == (None, (), ())


def test_a_command_ten_times_too_large_is_shortened_and_the_numbers_are_kept() -> None:
    guard = Guard(replace(LIMITS, max_step_m=0.02), PERIOD_S)
    decision = guard.step(Memory(), tick(0.0, command(0.3, 0.4)))
    assert decision.command is not None
    np.testing.assert_allclose(decision.command.translation_m, [0.012, 0.016, 0.0])
    (step,) = decision.interventions
    assert (step.limit, step.asked, step.allowed) == ("translation step", 0.5, pytest.approx(0.02))


def test_speed_is_built_up_within_acceleration_and_jerk() -> None:
    memory, steps_m = Memory(), []
    for index in range(6):
        decision = play(command(0.05), memory=memory)
        memory = decision.memory
        assert decision.command is not None
        steps_m.append(decision.command.translation_m[0])
        assert index > 0 or "translation acceleration" in limits_met(decision)
    speeds = np.array([0.0, *steps_m]) / PERIOD_S
    assert np.diff(speeds).max() <= LIMITS.max_acceleration_m_per_s2 * PERIOD_S + 1e-9
    assert speeds[-1] == pytest.approx(LIMITS.max_speed_m_per_s)


def test_turning_round_is_bounded_by_jerk() -> None:
    guard = Guard(replace(LIMITS, max_jerk_m_per_s3=100.0), PERIOD_S)
    decision = guard.step(Memory(), tick(0.0, command(0.05)))
    assert limits_met(decision) == {"translation acceleration", "translation jerk"}
    assert decision.command is not None
    assert decision.command.translation_m[0] == pytest.approx(100.0 * PERIOD_S**3)


def test_braking_is_always_allowed() -> None:
    moving = play(*[command(0.05)] * 5)
    decision = play(command(0.0), memory=moving.memory)
    assert decision.command is not None
    assert not decision.command.translation_m.any()
    assert decision.interventions == ()


def test_a_tick_that_comes_early_goes_less_far() -> None:
    moving = play(*[command(0.05)] * 6)
    assert moving.memory.tick_s is not None
    decision = GUARD.step(moving.memory, tick(moving.memory.tick_s + PERIOD_S / 5, command(0.05)))
    assert decision.command is not None
    assert decision.command.translation_m[0] <= LIMITS.max_speed_m_per_s * PERIOD_S / 5 + 1e-12


def test_an_arm_at_a_wall_slides_along_it() -> None:
    at_wall = state(position_m=[LIMITS.workspace_high_m[0] - 0.001, 0.0, 0.3])
    decision = GUARD.step(Memory(), tick(0.0, command(0.01, 0.01), at_wall))
    assert decision.command is not None
    np.testing.assert_allclose(decision.command.translation_m, [0.001, 0.01, 0.0])
    assert limits_met(decision) == {"workspace"}


def test_from_just_outside_the_workspace_only_the_way_back_is_open() -> None:
    outside = state(position_m=[LIMITS.workspace_high_m[0] + 0.01, 0.0, 0.3])
    for asked_m, allowed_m in ((0.01, 0.0), (-0.01, -0.01)):
        decision = GUARD.step(Memory(), tick(0.0, command(asked_m), outside))
        assert decision.command is not None
        assert decision.command.translation_m[0] == allowed_m


def test_the_gripper_closes_at_its_rate_and_from_where_it_is() -> None:
    decision = play(command(width_m=-1.0))
    assert decision.command is not None
    assert decision.command.gripper_width_m == pytest.approx(
        0.08 - LIMITS.max_gripper_speed_m_per_s * PERIOD_S
    )
    decision = play(*[command(width_m=-1.0)] * 40)
    assert decision.command is not None
    assert decision.command.gripper_width_m == 0.0


def shape(**changes: object) -> Command:
    return replace(command(), **changes)  # type: ignore[arg-type]


NAN = float("nan")
FAULTY: dict[str, tuple[FaultKind, Tick]] = {
    "silent": (FaultKind.ROBOT_SILENT, replace(tick(0.0, command()), measured=None)),
    "NaN position": (FaultKind.STATE_INVALID, tick(0.0, command(), state(position_m=[NAN, 0, 0]))),
    "six joints": (FaultKind.STATE_INVALID, tick(0.0, command(), state(joints_rad=np.zeros(6)))),
    "no rotation": (FaultKind.STATE_INVALID, tick(0.0, command(), state(rotation=np.full((3, 3), 1e300)))),
    "mirrored": (FaultKind.STATE_INVALID, tick(0.0, command(), state(rotation=-np.eye(3)))),
    "old state": (FaultKind.STATE_STALE, tick(0.0, command(), state(-LIMITS.max_state_age_s - 0.01))),
    "state ahead": (FaultKind.STATE_STALE, tick(0.0, command(), state(0.01))),
    "NaN stamp": (FaultKind.STATE_STALE, tick(0.0, command(), state(NAN))),
    "far away": (FaultKind.OUTSIDE_WORKSPACE, tick(0.0, command(), state(position_m=[0.5, 0.0, -0.1]))),
    "joint": (
        FaultKind.JOINT_MARGIN,
        tick(0.0, command(), state(joints_rad=np.array([0, 0, 0, -0.1, 0, 2, 0]))),
    ),
    "NaN": (FaultKind.COMMAND_INVALID, tick(0.0, command(NAN))),
    "inf": (FaultKind.COMMAND_INVALID, tick(0.0, command(roll=np.inf))),
    "NaN width": (FaultKind.COMMAND_INVALID, tick(0.0, command(width_m=NAN))),
    "two numbers": (FaultKind.COMMAND_INVALID, tick(0.0, shape(translation_m=np.zeros(2)))),
    "two rows": (FaultKind.COMMAND_INVALID, tick(0.0, shape(rotation_rad=np.zeros((2, 3))))),
    "a list": (FaultKind.COMMAND_INVALID, tick(0.0, shape(translation_m=[[0.0], [0.0, 1.0]]))),
    "text": (FaultKind.COMMAND_INVALID, tick(0.0, shape(translation_m=np.array(["a", "b", "c"])))),
    "old frame": (FaultKind.FRAME_STALE, tick(0.0, command(), frame_time_s=-LIMITS.max_frame_age_s - 0.01)),
    "no frame": (FaultKind.FRAME_STALE, tick(0.0, command(), frame_time_s=None)),
    "old chunk": (FaultKind.CHUNK_STALE, tick(0.0, command(), chunk_time_s=-LIMITS.max_chunk_age_s - 0.01)),
    "chunk ahead": (FaultKind.CHUNK_STALE, tick(0.0, command(), chunk_time_s=0.5)),
}


@pytest.mark.parametrize(("kind", "faulty"), FAULTY.values(), ids=FAULTY.keys())
def test_a_fault_is_found_answered_and_latched_until_cleared(kind: FaultKind, faulty: Tick) -> None:
    decision = GUARD.step(Memory(), faulty)
    assert [fault.kind for fault in decision.new_faults] == [kind]
    assert decision.command is None  # the arm was at rest, so a slow stop is a hold at once
    assert decision.safe_action == max(SafeAction.HOLD, SAFE_ACTIONS[kind])
    later = play(*[command(0.001)] * 3, memory=decision.memory)
    assert later.command is None
    assert later.safe_action is not None
    assert later.safe_action >= decision.safe_action
    assert kind in {fault.kind for fault in later.memory.faults}
    assert play(command(0.001)).command is not None


@pytest.mark.parametrize(
    ("elapsed_s", "kind"), [(0.0, "CLOCK"), (-3.0, "CLOCK"), (NAN, "CLOCK"), (0.2, "LATE_TICK")]
)
def test_the_watchdog_on_the_loop(elapsed_s: float, kind: str) -> None:
    first = play(command())
    assert first.memory.tick_s is not None
    decision = GUARD.step(first.memory, tick(first.memory.tick_s + elapsed_s, command()))
    assert FaultKind[kind] in {fault.kind for fault in decision.new_faults}


def test_states_out_of_order_and_an_arm_that_leaps_are_faults() -> None:
    for later, kind in (
        (state(-0.01), FaultKind.STATE_STALE),
        (state(0.05, [0.6, 0, 0.3]), FaultKind.OVERSPEED),
    ):
        decision = GUARD.step(play(None).memory, tick(0.05, command(), later))
        assert [fault.kind for fault in decision.new_faults] == [kind]
        assert decision.safe_action is SafeAction.STOP


def test_a_spinning_wrist_is_a_fault() -> None:
    turned = np.diag([1.0, -1.0, -1.0]) @ np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    decision = GUARD.step(play(None).memory, tick(0.05, command(), state(0.05, rotation=turned)))
    (fault,) = decision.new_faults
    assert fault.value == pytest.approx(np.pi / 2 / PERIOD_S)


def test_a_slow_stop_runs_out_and_then_holds() -> None:
    moving = play(*[command(0.05, roll=0.1, width_m=0.0)] * 6)
    assert moving.memory.tick_s is not None
    blind = tick(moving.memory.tick_s + PERIOD_S, command(0.05), frame_time_s=-2.0)
    steps_m, decision = [], GUARD.step(moving.memory, blind)
    while decision.command is not None:
        steps_m.append(decision.command.translation_m[0])
        assert decision.safe_action is SafeAction.SLOW_STOP
        assert decision.command.gripper_width_m == moving.memory.gripper_width_m
        decision = play(command(0.05), memory=decision.memory)
    np.testing.assert_allclose(steps_m, [0.025], atol=1e-12)  # 1 m/s, less 10 m/s2 in two periods
    assert decision.safe_action is SafeAction.HOLD


def test_a_short_gap_stops_gently_and_is_forgiven_a_long_one_is_not() -> None:
    moving = play(*[command(0.05)] * 6)
    gap = play(*[None] * 3, memory=moving.memory)
    assert (gap.safe_action, gap.memory.faults) == (SafeAction.HOLD, ())
    assert play(command(0.01), memory=gap.memory).command is not None
    gap = play(*[None] * round(LIMITS.max_gap_s / PERIOD_S + 2), memory=moving.memory)
    assert [fault.kind for fault in gap.memory.faults] == [FaultKind.NO_COMMAND]


def test_the_first_command_is_waited_for_longer_but_not_for_ever() -> None:
    patient = round(LIMITS.max_first_answer_s / PERIOD_S)
    decision = play(*[None] * patient)
    assert (decision.safe_action, decision.memory.faults) == (SafeAction.HOLD, ())
    (fault,) = play(*[None] * (patient + 3)).memory.faults
    assert (fault.kind, fault.limit) == (FaultKind.NO_COMMAND, LIMITS.max_first_answer_s)


def test_a_dead_camera_is_a_fault_before_the_first_command_too() -> None:
    (fault,) = play(None, None, frame_time_s=-2.0).memory.faults
    assert fault.kind is FaultKind.FRAME_STALE


def test_after_a_stall_a_slow_stop_does_not_set_a_standing_arm_going_again() -> None:
    moving = play(*[command(0.02)] * 20)
    assert np.linalg.norm(moving.memory.translation.speed) > 0.1
    assert moving.memory.tick_s is not None
    decision = GUARD.step(moving.memory, tick(moving.memory.tick_s + 5.0, command(0.02)))
    assert FaultKind.LATE_TICK in {fault.kind for fault in decision.new_faults}
    assert decision.command is None
    assert decision.safe_action is SafeAction.HOLD


def test_the_strictest_of_several_faults_counts_and_each_is_named() -> None:
    decision = GUARD.step(Memory(), replace(tick(0.0, command(NAN)), measured=None, frame_time_s=None))
    kinds = {FaultKind.ROBOT_SILENT, FaultKind.COMMAND_INVALID, FaultKind.FRAME_STALE}
    assert {fault.kind for fault in decision.memory.faults} == kinds
    assert decision.safe_action is SafeAction.STOP


def test_every_fault_has_an_answer_and_reads_well() -> None:
    assert set(SAFE_ACTIONS) == set(FaultKind)
    (fault,) = play(command(), chunk_time_s=-2.0).new_faults
    assert str(fault) == "chunk is too old or from the future (found 2, limit 1.5): SLOW_STOP"


@pytest.mark.parametrize(
    "changes",
    [
        {"max_step_m": NAN},
        {"max_jerk_m_per_s3": 0.0},
        {"workspace_low_m": (0.9, 0.0, 0.0)},
        {"joint_low_rad": (0.0,)},
        {"joint_margin_rad": 3.0},
    ],
)
def test_senseless_limits_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(
        ValueError, match=next(iter(changes)).rsplit("_", 1)[0].replace("joint_margin", "joint_low")
    ):
        replace(LIMITS, **changes)


def test_a_period_beyond_the_watchdog_is_refused() -> None:
    with pytest.raises(ValueError, match="max_tick_s"):
        Guard(LIMITS, LIMITS.max_tick_s)


def test_a_state_kept_by_the_caller_is_not_changed() -> None:
    measured: ArmState = state()
    before = measured.position_m.copy()
    GUARD.step(Memory(), tick(0.0, command(1.0), measured))
    np.testing.assert_array_equal(measured.position_m, before)


def test_a_fault_of_numbers_says_which_and_a_refusal_why() -> None:
    asked = replace(command(0.01), rotation_rad=np.array([0.0, np.nan, 0.0]))
    (fault,) = play(asked).new_faults
    assert "rotation_rad array([ 0., nan, 0.])" in str(fault)
    (fault,) = play(command(), measured=state(0.0, [0.5, np.inf, 0.3])).new_faults
    assert "position_m array([0.5, inf, 0.3])" in str(fault)
    (fault,) = play(None, refusal="no such camera").new_faults
    assert str(fault) == "policy refuses to answer (no such camera): SLOW_STOP"
    (fault,) = GUARD.step(Memory(), Tick(0.0)).new_faults
    assert str(fault) == "robot did not answer: STOP"
