"""The control loop on a fake clock: what the arm does when things go wrong, and after how many ticks."""

import logging
from collections.abc import Callable

import numpy as np
import pytest
from fake_arm import PANDA, state

from vega_policy.runtime.chunks import Playback
from vega_policy.runtime.clock import FakeClock
from vega_policy.runtime.faults import FaultKind, SafeAction
from vega_policy.runtime.loop import ControlLoop, TickReport
from vega_policy.runtime.robots.base import Command, Frame, Reading
from vega_policy.runtime.safety import Guard
from vega_policy.runtime.sources import ChunkError, ChunkRefusedError, ChunkRequest

PERIOD_S = 1 / PANDA.rate_hz
ROWS = 16
RUN_OUT = 2  # ticks that a slow stop takes from full speed: 1 m/s at 10 m/s2
PICTURE = np.zeros((2, 2, 3), np.uint8)


class CompliantArm:
    """Goes a third of the way it is sent, at once; everything about it can be made to fail."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.position_m = np.array([0.3, 0.0, 0.3])
        self.orders: list[str] = []
        self.camera_frozen_at_s: float | None = None
        self.read_takes_s = 0.0
        self.broken: set[str] = set()

    def _order(self, name: str) -> None:
        if name in self.broken:
            raise TimeoutError(f"no answer to {name}")
        self.orders.append(name)

    def read(self) -> Reading:
        if "read" in self.broken:
            raise ConnectionError("no answer")
        self.clock.advance(self.read_takes_s)
        now_s = self.clock.now_s()
        frame_s = now_s if self.camera_frozen_at_s is None else self.camera_frozen_at_s
        frames = {"front": Frame(PICTURE, frame_s), "wrist": Frame(PICTURE, now_s)}
        return Reading(state(now_s, self.position_m.copy()), frames)

    def command(self, command: Command) -> Command:
        self._order("command")
        self.position_m = self.position_m + command.translation_m / 3
        return command

    def hold(self) -> None:
        self._order("hold")

    def stop(self) -> None:
        self._order("stop")


class SlowPolicy:
    """Full speed to and fro; the answer to a request comes after `latency_s` of the clock."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.latency_s = 2 * PERIOD_S
        self.answer: object = None
        self.requests: list[ChunkRequest] = []
        self.due_s: float | None = None
        self.num_resets = self.num_asked = 0

    def ask(self, request: ChunkRequest) -> None:
        self.num_asked += 1
        assert self.due_s is None, "asked while a request was under way"
        if isinstance(self.answer, ChunkError):
            raise self.answer
        self.requests.append(request)
        self.due_s = self.clock.now_s() + self.latency_s

    def poll(self) -> np.ndarray | None:
        if self.due_s is None or self.clock.now_s() < self.due_s:
            return None
        self.due_s = None
        if self.answer is not None:
            return self.answer  # type: ignore[return-value]
        chunk = np.zeros((ROWS, 7))
        chunk[:, 0] = 1.0 if self.requests[-1].reading.state.position_m[0] < 0.5 else -1.0
        return chunk

    def reset(self) -> None:
        self.due_s = None
        self.num_resets += 1


class Rig:
    """A loop that has been running for a second, and what it reported."""

    def __init__(self, rule: str = "open_loop", num_ticks: int = 20) -> None:
        self.clock = FakeClock(100.0)
        self.arm, self.policy = CompliantArm(self.clock), SlowPolicy(self.clock)
        self.reports: list[TickReport] = []
        self.loop = ControlLoop(
            self.arm,
            self.policy,
            Guard(PANDA.limits, PERIOD_S),
            self.clock,
            actions=PANDA.actions,
            playback=Playback(rule),
            task="pick up the bowl",
            watchers=[self],
        )
        self.ticks(num_ticks)

    def watch(self, report: TickReport) -> None:
        self.reports.append(report)

    def ticks(self, count: int) -> list[TickReport]:
        start = len(self.reports)
        for _ in range(count):
            self.loop.tick()
            self.clock.advance(PERIOD_S)
        return self.reports[start:]

    def ticks_until_still(self, most: int = 60) -> int:
        """Ticks with motion before the arm stands still for good, which it does for a second."""
        moving = [report.sent is not None for report in self.ticks(most)]
        assert not any(moving[-20:])
        return moving.index(False)

    def faults(self) -> set[FaultKind]:
        return {fault.kind for fault in self.loop.faults}


@pytest.mark.parametrize("rule", ["open_loop", "temporal_ensemble", "rtc"])
def test_the_arm_moves_without_a_gap_while_chunks_are_computed(rule: str) -> None:
    rig = Rig(rule, num_ticks=100)
    assert [report.sent is None for report in rig.reports[:2]] == [True, True]
    assert all(report.sent is not None for report in rig.reports[2:])
    assert rig.faults() == set()
    ahead = [len(request.ahead) for request in rig.policy.requests]
    assert set(ahead[1:]) == ({ROWS - 8} if rule == "rtc" else {0})
    assert {request.delay_rows for request in rig.policy.requests[1:]} == ({2} if rule == "rtc" else {0})
    assert rig.policy.requests[0].task == "pick up the bowl"


def test_what_is_reported_is_what_was_sent() -> None:
    rig = Rig()
    assert rig.reports[-1].decision.command is rig.reports[-1].sent
    assert rig.reports[-1].played is not None


def no_more_chunks(rig: Rig) -> None:
    rig.policy.latency_s = 1e9


def refused(rig: Rig) -> None:
    rig.policy.answer = ChunkError("connection lost")


def wrong_shape(rig: Rig) -> None:
    rig.policy.answer = np.zeros((ROWS, 6))


def wrong_type(rig: Rig) -> None:
    rig.policy.answer = [["a"] * 7]


def not_finite(rig: Rig) -> None:
    rig.policy.answer = np.full((ROWS, 7), np.nan)


def frozen_camera(rig: Rig) -> None:
    rig.arm.camera_frozen_at_s = rig.clock.now_s()


def silent(rig: Rig) -> None:
    rig.arm.broken = {"read"}


def deaf(rig: Rig) -> None:
    rig.arm.broken = {"command"}


def jump_back(rig: Rig) -> None:
    rig.clock.advance(-50.0)


def jump_ahead(rig: Rig) -> None:
    rig.clock.advance(50.0)


def stall(rig: Rig) -> None:
    rig.clock.advance(2 * PERIOD_S)


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


def test_a_late_chunk_is_bridged_gently_and_played_from_its_middle() -> None:
    rig = Rig()
    rig.policy.latency_s = (ROWS - 2) * PERIOD_S
    reports = rig.ticks(40)
    gap = [report.decision.safe_action for report in reports if report.played is None]
    assert gap[:1] == [SafeAction.SLOW_STOP]
    assert SafeAction.HOLD in gap
    assert rig.faults() == set()
    played = [report.played for report in reports]
    resumed = next(index for index in range(played.index(None), 40) if played[index] is not None)
    age_s = reports[resumed].now_s - played[resumed].observed_at_s  # type: ignore[union-attr]
    assert rig.policy.latency_s - 1e-9 <= age_s <= rig.policy.latency_s + 1.5 * PERIOD_S


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


def test_what_the_guard_changes_is_in_the_log_with_its_numbers(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        rig = Rig(num_ticks=6)
    changed = [report for report in rig.reports if report.decision.interventions]
    lines = [record.message for record in caplog.records if record.message.startswith("guard: ")]
    assert len(lines) == len(changed) > 0
    first = changed[0].decision.interventions[0]
    assert f"{first.limit}: asked {first.asked:.4g}, allowed {first.allowed:.4g}" in lines[0]


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


def test_a_watcher_that_fails_is_let_go_and_the_arm_moves_on() -> None:
    class FullDisk:
        num_calls = 0

        def watch(self, report: TickReport) -> None:
            self.num_calls += 1
            raise OSError("no space left on device")

    rig, disk = Rig(), FullDisk()
    rig.loop._watchers.insert(0, disk)
    assert all(report.sent is not None for report in rig.ticks(5))
    assert disk.num_calls == 1


def test_run_keeps_its_rate_and_does_not_catch_up_in_a_burst() -> None:
    rig = Rig(num_ticks=0)
    rig.arm.read_takes_s = 0.01
    rig.loop.run(lambda: len(rig.reports) == 50)
    pace = rig.loop.pace()
    assert pace.num_ticks == 50
    assert pace.rate_error == pytest.approx(0.0, abs=1e-9)
    assert rig.arm.orders[-1] == "hold"


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


def test_after_a_slow_tick_the_loop_goes_on_without_a_burst() -> None:
    rig = Rig(num_ticks=0)

    def done() -> bool:
        rig.arm.read_takes_s = 0.13 if len(rig.reports) == 20 else 0.0
        return len(rig.reports) == 40

    rig.loop.run(done)
    intervals_s = np.diff([report.now_s for report in rig.reports])
    assert intervals_s.min() >= PERIOD_S - 1e-9
    assert rig.loop.pace().worst_jitter_s == pytest.approx(0.13)
    assert rig.loop.pace().rate_error < -0.05
    assert rig.faults() == {FaultKind.LATE_TICK}


def test_a_clock_that_ran_back_does_not_put_the_loop_to_sleep() -> None:
    rig = Rig(num_ticks=0)

    def done() -> bool:
        if len(rig.reports) == 10:
            rig.clock.advance(-1000.0)
        return len(rig.reports) == 12

    rig.loop.run(done)
    assert rig.reports[-1].now_s < 0
    assert FaultKind.CLOCK in rig.faults()


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


def test_what_a_chunk_continues_begins_at_its_observation() -> None:
    """Pictures are three periods old: rows that have been played meanwhile belong to what is continued."""
    rig = Rig("rtc")
    read = rig.arm.read

    def read_late() -> Reading:
        reading = read()
        old_s = reading.state.time_s - 3 * PERIOD_S
        return Reading(reading.state, {name: Frame(PICTURE, old_s) for name in reading.frames})

    rig.arm.read = read_late  # type: ignore[method-assign]
    rig.policy.requests.clear()
    rig.ticks(20)
    request = rig.policy.requests[-1]
    continued_s = request.reading.frames["front"].time_s
    before = rig.policy.requests[-2].reading.frames["front"].time_s
    assert len(request.ahead) == ROWS - round((continued_s - before) / PERIOD_S)


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
