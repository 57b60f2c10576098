"""The control loop: read, ask for chunks, play them, guard every command, send, at a fixed rate.

The loop never waits for a policy: while a chunk is computed the last one plays, and when rows run out the arm
slows down and holds. After a late tick the loop goes on from now; it never sends commands in a burst to catch
up. Watchers, such as a recorder or a live view, see each tick and cannot change it: one that fails is let go.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vega_policy.runtime.chunks import Chunk, Playback, PlayedRow, admit, play, rows_ahead, rows_of_delay
from vega_policy.runtime.clock import Clock
from vega_policy.runtime.faults import Fault, SafeAction, Tick
from vega_policy.runtime.outages import Outages
from vega_policy.runtime.pace import Pace, PaceReport
from vega_policy.runtime.robots.base import Command, EndEffectorDelta, Reading, Robot
from vega_policy.runtime.safety import Decision, Guard, Memory
from vega_policy.runtime.sources import ChunkError, ChunkRefusedError, ChunkRequest, ChunkSource

logger = logging.getLogger(__name__)

STOP_ATTEMPTS = 3


@dataclass(frozen=True, eq=False)
class TickReport:
    """One tick, for those who watch.

    Attributes:
        now_s: when, on the loop's clock.
        reading: what was measured; None when the robot did not answer.
        played: the policy's action for this moment; None when there was none.
        decision: the guard's, with interventions and faults.
        sent: what the robot says was sent; None for a hold, a stop, or when it did not answer.
    """

    now_s: float
    reading: Reading | None
    played: PlayedRow | None
    decision: Decision
    sent: Command | None


class Watcher(Protocol):
    """Sees every tick. It runs in the loop's thread, so it must hand slow work to another."""

    def watch(self, report: TickReport) -> None:
        """Takes a tick in."""
        ...


class ControlLoop:
    """Drives one arm with one source of chunks.

    Args:
        robot: the arm.
        source: of chunks; its `reset` is called by `clear_faults` only.
        guard: with the arm's limits and the loop's period.
        clock: all time comes from it.
        actions: what the policy's numbers mean.
        playback: how chunks follow each other.
        task: what to do, in words.
        watchers: who sees every tick.
    """

    def __init__(
        self,
        robot: Robot,
        source: ChunkSource,
        guard: Guard,
        clock: Clock,
        *,
        actions: EndEffectorDelta,
        playback: Playback,
        task: str,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        self._robot, self._source, self._guard, self._clock = robot, source, guard, clock
        self._actions, self._playback, self._task = actions, playback, task
        self._watchers = list(watchers)
        self._pace = Pace(guard.period_s)
        self._memory = Memory()
        self._chunks: tuple[Chunk, ...] = ()
        self._observed_at_s: float | None = None  # of the request under way
        self._is_silent = False
        self._refusal: str | None = None  # why the policy will not answer
        self._outages = Outages(logger)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Latched until `clear_faults`."""
        return self._memory.faults

    def pace(self) -> PaceReport:
        """How steady the ticks were."""
        return self._pace.report()

    def clear_faults(self) -> None:
        """A person says that it is safe to go on. Chunks from before are dropped, those under way too."""
        self._memory, self._chunks = Memory(), ()
        self._observed_at_s = self._refusal = None
        self._source.reset()

    def run(self, is_done: Callable[[], bool]) -> None:
        """Ticks until `is_done`, then stands still; an exception, Ctrl-C included, stops the arm first."""
        period_s = self._guard.period_s
        due_s = self._clock.now_s()
        try:
            while not is_done():
                # The second bound: after a clock ran backwards, `due_s` may be far ahead.
                self._clock.sleep_until(min(due_s, self._clock.now_s() + period_s))
                self.tick()
                due_s = _next_due_s(due_s, self._clock.now_s(), period_s)
        except BaseException:
            self._stop_at_once()
            raise
        answers = (fault.safe_action for fault in self._memory.faults)
        try:
            self._stand(max(answers, default=SafeAction.HOLD))
        except BaseException:  # a hold begins with a reading, which may fail once
            self._stop_at_once()
            raise

    def _stop_at_once(self) -> None:
        """Tries a few times: it is the last that the arm hears."""
        for _ in range(STOP_ATTEMPTS):
            try:
                self._robot.stop()
                return
            except OSError as error:  # why the run ends is what the caller has to know
                logger.error("the robot could not be told to stop: %s", error)

    def tick(self) -> TickReport:
        """One period's work; `run` calls it at the loop's rate."""
        reading = self._read()
        now_s = self._clock.now_s()  # after reading, so that nothing measured is from the future
        self._pace.record(now_s)
        played = self._plan(now_s, reading)
        decision = self._guard.step(self._memory, self._seen(now_s, reading, played))
        self._memory = decision.memory
        for fault in decision.new_faults:
            logger.error("fault: %s", fault)
        if decision.interventions:
            logger.info("guard: %s", "; ".join(map(str, decision.interventions)))
        report = TickReport(now_s, reading, played, decision, self._act(decision))
        self._show(report)
        return report

    def _read(self) -> Reading | None:
        try:
            reading = self._robot.read()
        except OSError as error:
            self._outages.note("reading the robot", error)
            return None
        self._outages.over("reading the robot")
        return None if self._is_silent else reading

    def _plan(self, now_s: float, reading: Reading | None) -> PlayedRow | None:
        """Takes a chunk in, asks for the next, and finds the row to play."""
        if self._memory.faults:
            return None
        self._receive(now_s)
        if reading is not None and self._is_chunk_due(now_s, reading):
            self._ask(reading)
        return play(self._young_chunks(now_s), now_s, self._playback)

    def _young_chunks(self, now_s: float) -> Sequence[Chunk]:
        """Those that may be played; the newest in any case, whose age is the guard's to judge."""
        oldest_s = now_s - self._guard.limits.max_chunk_age_s
        return [chunk for chunk in self._chunks[:-1] if chunk.observed_at_s >= oldest_s] + [
            *self._chunks[-1:]
        ]

    def _receive(self, now_s: float) -> None:
        if self._observed_at_s is None:
            return
        try:
            actions = self._source.poll()
            if actions is not None:
                observed_at_s, self._observed_at_s = self._observed_at_s, None
                actions = np.asarray(actions, np.float64)
                new = Chunk(actions, observed_at_s, self._guard.period_s, arrived_at_s=now_s)
                self._chunks = admit(self._chunks, new)
                self._outages.over("the policy")
        except (ChunkError, TypeError, ValueError) as error:
            self._miss(error)

    def _is_chunk_due(self, now_s: float, reading: Reading) -> bool:
        """A frozen picture is not worth a policy's time; the guard says what to do about it."""
        is_fresh = now_s - _oldest_s(reading) <= self._guard.limits.max_frame_age_s  # NaN is not
        if self._observed_at_s is not None or not is_fresh:
            return False
        return not self._chunks or self._chunks[-1].index(now_s) >= self._playback.replan_rows

    def _ask(self, reading: Reading) -> None:
        continued = self._chunks if self._playback.rule == "rtc" else ()
        observed_at_s = _oldest_s(reading)
        ahead = rows_ahead(continued, observed_at_s)  # row by row beside the new chunk, which begins there
        try:
            self._source.ask(ChunkRequest(reading, self._task, ahead, rows_of_delay(continued)))
            self._observed_at_s = observed_at_s
        except ChunkError as error:
            self._miss(error)

    def _miss(self, error: Exception) -> None:
        """A chunk will not come; whether to ask again is for the error to say."""
        self._outages.note("the policy", error)
        self._observed_at_s = None
        if isinstance(error, ChunkRefusedError):
            self._refusal = str(error)

    def _seen(self, now_s: float, reading: Reading | None, played: PlayedRow | None) -> Tick:
        return Tick(
            now_s,
            command=None if played is None else self._actions.command(played.action),
            measured=None if reading is None else reading.state,
            frame_time_s=None if reading is None else _oldest_s(reading),
            chunk_time_s=None if played is None else played.observed_at_s,
            refusal=self._refusal,
        )

    def _act(self, decision: Decision) -> Command | None:
        """A robot that does not take an order counts as silent in the next tick."""
        try:
            sent = self._order(decision)
        except OSError as error:
            self._outages.note("commanding the robot", error)
            self._is_silent = True
            return None
        self._outages.over("commanding the robot")
        self._is_silent = False
        return sent

    def _order(self, decision: Decision) -> Command | None:
        if decision.command is not None:
            return self._robot.command(decision.command)
        self._stand(decision.safe_action)
        return None

    def _stand(self, answer: SafeAction | None) -> None:
        """Holding would set an arm that was told to stop going again."""
        if answer is SafeAction.STOP:
            self._robot.stop()
        else:
            self._robot.hold()

    def _show(self, report: TickReport) -> None:
        for watcher in list(self._watchers):
            try:
                watcher.watch(report)
            except Exception:  # a full disk or a closed window must not reach the arm
                logger.exception("%s failed and is let go", type(watcher).__name__)
                self._watchers.remove(watcher)


def _next_due_s(due_s: float, now_s: float, period_s: float) -> float:
    """A period after the tick that was due, or after now if that has passed already."""
    return due_s + period_s if due_s + period_s > now_s else now_s + period_s


def _oldest_s(reading: Reading) -> float:
    """When the oldest of the cameras' newest frames was taken; an arm without cameras goes by its state.

    NaN if one does not say: a minimum would pass it over.
    """
    times_s = [frame.time_s for frame in reading.frames.values()] or [reading.state.time_s]
    return float(np.min(times_s))
