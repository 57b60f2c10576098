"""The control loop on a fake clock: rate, chunks, clocks, logs and watchers."""

import logging

import numpy as np
import pytest
from loop_rig import PERIOD_S, PICTURE, ROWS, Rig

from vega_policy.runtime.faults import FaultKind, SafeAction
from vega_policy.runtime.loop import TickReport
from vega_policy.runtime.robots.base import Frame, Reading


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


def test_what_the_guard_changes_is_in_the_log_with_its_numbers(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        rig = Rig(num_ticks=6)
    changed = [report for report in rig.reports if report.decision.interventions]
    lines = [record.message for record in caplog.records if record.message.startswith("guard: ")]
    assert len(lines) == len(changed) > 0
    first = changed[0].decision.interventions[0]
    assert f"{first.limit}: asked {first.asked:.4g}, allowed {first.allowed:.4g}" in lines[0]


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
