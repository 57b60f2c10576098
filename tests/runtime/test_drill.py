"""The fault table's small form: every fault on a fake clock, with a kinematic arm under the real adapters.

The same drills with processes and sockets are in test_drill_processes.py.
"""

import itertools
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_arm import PANDA
from kinematic_arm import PERIOD_S, KinematicDriver

from vega_policy.runtime.chunks import Playback
from vega_policy.runtime.clock import FakeClock
from vega_policy.runtime.drill import (
    HEADER,
    Outcome,
    ToAndFro,
    Track,
    broken_limits,
    drill,
    speeds_m_per_s,
    ticks_until_still,
)
from vega_policy.runtime.loop import ControlLoop
from vega_policy.runtime.observing import Observer
from vega_policy.runtime.recording import Recorder
from vega_policy.runtime.robots.base import Command
from vega_policy.runtime.robots.deadman import Deadman
from vega_policy.runtime.robots.faulty import Faulty
from vega_policy.runtime.robots.panda import Panda
from vega_policy.runtime.safety import Guard
from vega_policy.runtime.sources import ChunkError, ChunkRequest


class FakeLink:
    """A policy that answers after `latency_s` of the clock, or not at all."""

    def __init__(self, clock: FakeClock, policy: ToAndFro, observer: Observer) -> None:
        self.clock, self.policy, self.observer = clock, policy, observer
        self.latency_s, self.is_cut = 0.1, False
        self.request: tuple[float, ChunkRequest] | None = None

    def ask(self, request: ChunkRequest) -> None:
        self.request = self.clock.now_s(), request

    def poll(self) -> np.ndarray | None:
        if self.request is None:
            return None
        if self.is_cut:
            self.request = None
            raise ChunkError("no server")
        asked_s, request = self.request
        if self.clock.now_s() < asked_s + self.latency_s - 1e-9:
            return None
        self.request = None
        return self.policy.act(self.observer.observation(request.reading, request.task))

    def reset(self) -> None:
        self.request = None


class FakeStage:
    """A whole deployment on a fake clock."""

    def __init__(self, folder: Path, rule: str = "open_loop") -> None:
        self.clock, self.limits, self.period_s = FakeClock(100.0), PANDA.limits, PERIOD_S
        self.driver = KinematicDriver(self.clock, side_px=16)
        panda = Panda(self.driver, {"image": self.driver, "image2": self.driver})
        self.deadman = Deadman(panda, self.clock, 0.25)
        self.robot = Faulty(self.deadman, self.clock, np.random.default_rng(0))
        observer = Observer({"image": "image", "image2": "image2"}, (0.0, 0.0, 0.0), 16)
        self.policy = ToAndFro(0.5)
        self.link = FakeLink(self.clock, self.policy, observer)
        self.track = Track(lambda: (self.driver.periods * PERIOD_S, self.driver.position_m))
        self.recorder = Recorder(folder, observer, PANDA.actions, 20.0, {"task": "swing"})
        self.loop = ControlLoop(
            self.robot,
            self.link,
            Guard(PANDA.limits, PERIOD_S),
            self.clock,
            actions=PANDA.actions,
            playback=Playback(rule, replan_rows=4),
            task="swing",
            watchers=[self.track, self.recorder],
        )
        self.is_loop_alive = True

    def tick(self) -> None:
        if self.is_loop_alive:
            self.loop.tick()
        else:
            self.track.motion.append((self.driver.periods * PERIOD_S, self.driver.position_m))
        self.clock.advance(PERIOD_S)
        self.deadman.check()
        self.driver.advance()
        self.robot.update()

    def inject(self, **changes: float | bool) -> Callable[[], None]:
        def change() -> None:
            self.robot.faults = self.robot.faults.changed(changes)

        return change


MOVES_ON = float("inf")


def spoil(stage: FakeStage, spoilt: Callable[[np.ndarray], np.ndarray]) -> Callable[[], None]:
    return lambda: setattr(stage.policy, "spoil", spoilt)


def cut(stage: FakeStage, is_cut: bool) -> Callable[[], None]:
    return lambda: setattr(stage.link, "is_cut", is_cut)


def delay(stage: FakeStage, seconds: float) -> Callable[[], None]:
    return lambda: setattr(stage.link, "latency_s", 0.1 + seconds)


FAULTS: dict[str, Callable[[FakeStage], tuple[Callable[[], None], ...]]] = {
    "camera freezes": lambda stage: (stage.inject(camera_freeze=True),),
    "camera drops all": lambda stage: (stage.inject(camera_drop=1.0),),
    "camera drops a fifth": lambda stage: (stage.inject(camera_drop=0.2),),
    "arm delayed": lambda stage: (stage.inject(arm_delay_s=0.3),),
    "arm silent": lambda stage: (stage.inject(arm_freeze=True),),
    "server killed": lambda stage: (cut(stage, True),),
    "server restarted": lambda stage: (cut(stage, True), cut(stage, False)),
    "delay 50 ms": lambda stage: (delay(stage, 0.05),),
    "delay 200 ms": lambda stage: (delay(stage, 0.2),),
    "delay 1000 ms": lambda stage: (delay(stage, 1.0),),
    "NaN": lambda stage: (spoil(stage, lambda chunk: chunk * np.nan),),
    "tenfold": lambda stage: (spoil(stage, lambda chunk: chunk * 10),),
    "clock forward": lambda stage: (lambda: stage.clock.advance(5.0),),
    "clock back": lambda stage: (lambda: stage.clock.advance(-5.0),),
}


def run(stage: FakeStage, fault: str) -> Outcome:
    return drill(fault, stage, *FAULTS[fault](stage))


@pytest.mark.parametrize(
    ("fault", "reaction", "most_s"),
    [
        ("camera freezes", "moves, slow stop, hold (a camera's frame is too old", 0.8),
        ("camera drops all", "moves, slow stop, hold (a camera's frame is too old", 0.8),
        ("camera drops a fifth", "goes on", MOVES_ON),
        ("arm delayed", "moves, stop (measured state is too old", 0.6),
        ("arm silent", "moves, stop (measured state is too old", 0.6),
        ("server killed", "moves, slow stop, hold (no command for too long", 1.2),
        ("delay 50 ms", "goes on", MOVES_ON),
        ("delay 200 ms", "goes on", MOVES_ON),
        ("NaN", "moves, hold (command is not seven finite numbers", 0.8),
        ("tenfold", "goes on", MOVES_ON),
        ("clock forward", "stop (control loop was late", 0.3),
        ("clock back", "stop (clock stood still or ran backwards", 0.3),
    ],
)
def test_a_fault_has_its_answer_within_its_time(
    fault: str, reaction: str, most_s: float, tmp_path: Path
) -> None:
    outcome = run(FakeStage(tmp_path / "run"), fault)
    assert outcome.reaction.startswith(reaction), outcome
    assert outcome.broken_limits == (), outcome
    assert (MOVES_ON if outcome.still_after_s is None else outcome.still_after_s) <= most_s, outcome
    assert (outcome.still_after_s is None) == (most_s == MOVES_ON), outcome
    assert outcome.num_rows == outcome.num_ticks


@pytest.mark.parametrize("rule", ["temporal_ensemble", "rtc"])
def test_the_other_rules_keep_the_limits_too(rule: str, tmp_path: Path) -> None:
    assert run(FakeStage(tmp_path / "tenfold", rule), "tenfold").broken_limits == ()
    outcome = run(FakeStage(tmp_path / "killed", rule), "server killed")
    assert outcome.broken_limits == ()
    assert outcome.still_after_s is not None


def test_a_server_that_comes_back_finds_the_arm_waiting_and_goes_on_if_it_was_gone_for_less_than_the_gap(
    tmp_path: Path,
) -> None:
    stage = FakeStage(tmp_path / "run")
    outcome = run(stage, "server restarted")
    assert outcome.reaction == "moves, hold, moves" or outcome.reaction.startswith(
        "moves, slow stop, hold, moves"
    )
    assert outcome.still_after_s is None
    assert stage.loop.faults == ()


def test_a_second_of_delay_leaves_no_row_to_play_and_the_arm_holds(tmp_path: Path) -> None:
    outcome = run(FakeStage(tmp_path / "run"), "delay 1000 ms")
    assert "hold (no command for too long" in outcome.reaction
    assert outcome.still_after_s is not None
    assert outcome.broken_limits == ()


def test_a_loop_that_is_killed_leaves_an_arm_that_holds_by_itself(tmp_path: Path) -> None:
    stage = FakeStage(tmp_path / "run")
    for _ in range(30):
        stage.tick()
    stage.is_loop_alive = False
    before_m = stage.driver.position_m
    for _ in range(20):
        stage.tick()
    stage.recorder.close()
    assert stage.deadman.num_silences == 1
    travelled_m = np.linalg.norm(stage.driver.position_m - before_m)
    assert travelled_m <= PANDA.limits.max_step_m, "at most to the end of the last displacement"
    assert ticks_until_still(speeds_m_per_s(stage.track)[30:]) <= 12, "0.25 s of silence, then a hold"


def test_limits_that_a_drill_breaks_are_named(tmp_path: Path) -> None:
    stage = FakeStage(tmp_path / "run")
    for _ in range(30):
        stage.tick()
    stage.recorder.close()
    track, limits = stage.track, stage.limits
    assert broken_limits(track, limits, PERIOD_S) == ()
    tight = replace(
        limits,
        max_acceleration_m_per_s2=1.0,
        max_jerk_m_per_s3=1.0,
        max_measured_speed_m_per_s=0.1,
        workspace_low_m=(0.25, 0.1, 0.01),
    )
    assert set(broken_limits(track, tight, PERIOD_S)) == {
        *("acceleration (m)", "jerk (m)"),
        *("measured speed", "measured place"),
    }
    there_and_back = zip(track.reports, itertools.cycle((1, -1)), strict=False)
    track.reports = [replace(report, sent=turned(report.sent, sign)) for report, sign in there_and_back]
    assert "acceleration (m)" in broken_limits(track, limits, PERIOD_S)


def turned(sent: Command | None, sign: int) -> Command | None:
    return sent and replace(sent, translation_m=sent.translation_m * sign)


def test_how_long_until_still_is_counted_from_the_last_motion() -> None:
    assert ticks_until_still([0.3, 0.3, 0.1, 0.0, 0.0]) == 3
    assert ticks_until_still([0.3, 0.0, 0.1, 0.0]) == 3
    assert ticks_until_still([0.0, 0.0]) == 0
    assert ticks_until_still([0.3, 0.3]) is None


def print_table() -> None:
    """Every fault of the small form as a table: `python tests/runtime/test_drill.py`."""
    print(HEADER)
    with tempfile.TemporaryDirectory() as folder:
        for index, fault in enumerate(FAULTS):
            print(run(FakeStage(Path(folder) / str(index)), fault).row(), flush=True)


if __name__ == "__main__":
    print_table()
