"""A control loop on a fake clock, with an arm and a policy that can be made to fail in the usual ways."""

import numpy as np
from fake_arm import PANDA, state

from vega_policy.runtime.chunks import Playback
from vega_policy.runtime.clock import FakeClock
from vega_policy.runtime.faults import FaultKind
from vega_policy.runtime.loop import ControlLoop, TickReport
from vega_policy.runtime.robots.base import Command, Frame, Reading
from vega_policy.runtime.safety import Guard
from vega_policy.runtime.sources import ChunkError, ChunkRequest

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
