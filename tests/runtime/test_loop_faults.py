"""The control loop when things go wrong: when the arm is still, and how the loop goes on or ends."""

import logging
from collections.abc import Callable

import pytest
from fake_arm import PANDA
from loop_rig import (
    PERIOD_S,
    PICTURE,
    ROWS,
    RUN_OUT,
    Rig,
    deaf,
    frozen_camera,
    jump_ahead,
    jump_back,
    no_more_chunks,
    not_finite,
    refused,
    silent,
    stall,
    wrong_shape,
    wrong_type,
)

from vega_policy.runtime.faults import FaultKind
from vega_policy.runtime.robots.base import Frame, Reading
from vega_policy.runtime.sources import ChunkRefusedError

FRAME_TICKS = round(PANDA.limits.max_frame_age_s / PERIOD_S) + 1
FAULT_TABLE: dict[Callable[[Rig], None], tuple[FaultKind, int]] = {
    no_more_chunks: (FaultKind.NO_COMMAND, ROWS + RUN_OUT),
    refused: (FaultKind.NO_COMMAND, ROWS + RUN_OUT),
    wrong_shape: (FaultKind.NO_COMMAND, ROWS + RUN_OUT),
    wrong_type: (FaultKind.NO_COMMAND, ROWS + RUN_OUT),
    not_finite: (FaultKind.COMMAND_INVALID, ROWS),
    frozen_camera: (FaultKind.FRAME_STALE, FRAME_TICKS + RUN_OUT),
    silent: (FaultKind.ROBOT_SILENT, 0),
    deaf: (FaultKind.ROBOT_SILENT, 0),
    jump_back: (FaultKind.CLOCK, 0),
    jump_ahead: (FaultKind.LATE_TICK, RUN_OUT),
    stall: (FaultKind.LATE_TICK, RUN_OUT),
}


@pytest.mark.parametrize("disturb", FAULT_TABLE, ids=lambda disturb: disturb.__name__)
def test_the_arm_is_still_within_a_stated_number_of_ticks(disturb: Callable[[Rig], None]) -> None:
    kind, most_ticks = FAULT_TABLE[disturb]
    rig = Rig()
    disturb(rig)
    assert rig.ticks_until_still() <= most_ticks
    assert kind in rig.faults()
    assert rig.arm.orders[-1] == ("stop" if kind in (FaultKind.ROBOT_SILENT, FaultKind.CLOCK) else "hold")


def test_after_a_fault_only_a_person_sets_the_arm_going_again() -> None:
    rig = Rig()
    silent(rig)
    rig.ticks(3)
    rig.arm.broken = set()
    num_requests = len(rig.policy.requests)
    assert rig.ticks_until_still() == 0
    assert len(rig.policy.requests) == num_requests
    rig.loop.clear_faults()
    assert rig.policy.num_resets == 1
    moving = [report.sent is not None for report in rig.ticks(10)]
    assert moving == [False] * 2 + [True] * 8  # nothing from before the fault is played


def test_a_policy_that_refuses_is_a_fault_and_is_asked_again_only_when_a_person_says_so() -> None:
    rig = Rig(num_ticks=0)
    rig.policy.answer = ChunkRefusedError("the policy does not fit this robot")
    rig.ticks(30)
    assert rig.faults() == {FaultKind.POLICY_REFUSED}
    assert "does not fit this robot" in str(rig.loop.faults[0])
    assert rig.policy.num_asked == 1
    rig.policy.answer = None
    rig.loop.clear_faults()
    assert rig.ticks(5)[-1].sent is not None
    assert rig.faults() == set()


def test_an_outage_is_in_the_log_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    with caplog.at_level(logging.WARNING):
        rig.arm.broken = {"read", "stop"}
        rig.ticks(10)
        rig.arm.broken = set()
        rig.ticks(10)
    lines = [record.message for record in caplog.records if not record.message.startswith("fault: ")]
    assert lines == [
        "reading the robot fails: no answer",
        "commanding the robot fails: no answer to stop",
        "reading the robot works again",
        "commanding the robot works again",
    ]


@pytest.mark.parametrize(("disturb", "last"), [(silent, "stop"), (no_more_chunks, "hold")])
def test_a_run_that_ends_after_a_fault_leaves_the_arm_as_the_fault_did(
    disturb: Callable[[Rig], None], last: str
) -> None:
    rig = Rig()
    disturb(rig)
    rig.ticks(40)
    assert rig.loop.faults
    rig.arm.orders.clear()
    rig.loop.run(lambda: True)
    assert rig.arm.orders == [last]


def test_a_camera_that_does_not_say_when_is_not_passed_over() -> None:
    rig = Rig()
    read = rig.arm.read

    def read_without_a_time() -> Reading:
        reading = read()
        wrist = Frame(PICTURE, float("nan"))
        return Reading(reading.state, {**reading.frames, "wrist": wrist})

    rig.arm.read = read_without_a_time  # type: ignore[method-assign]
    rig.ticks(5)
    assert rig.faults() == {FaultKind.FRAME_STALE}


def test_a_stop_that_fails_once_is_tried_again() -> None:
    rig = Rig(num_ticks=5)
    stop, failures = rig.arm.stop, [TimeoutError("no answer")]

    def stop_at_last() -> None:
        if failures:
            raise failures.pop()
        stop()

    def interrupt() -> bool:
        raise KeyboardInterrupt

    rig.arm.stop = stop_at_last  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        rig.loop.run(interrupt)
    assert rig.arm.orders[-1] == "stop"


def test_a_run_whose_last_hold_fails_ends_in_a_stop() -> None:
    rig = Rig(num_ticks=5)
    rig.arm.broken = {"hold"}
    with pytest.raises(TimeoutError):
        rig.loop.run(lambda: True)
    assert rig.arm.orders[-1] == "stop"


@pytest.mark.parametrize("broken", [set(), {"stop"}])
def test_an_interruption_stops_the_arm_and_remains_one_if_the_arm_is_gone(broken: set[str]) -> None:
    rig = Rig(num_ticks=5)
    rig.arm.broken = broken

    def interrupt() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rig.loop.run(interrupt)
    assert (rig.arm.orders[-1] == "stop") == (not broken)
