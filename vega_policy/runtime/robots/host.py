"""The process next to an arm: it measures every period, executes orders, and holds when nobody gives any."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vega_policy.runtime.clock import Clock
from vega_policy.runtime.outages import Outages
from vega_policy.runtime.robots.base import ArmState, Robot
from vega_policy.runtime.robots.deadman import Deadman
from vega_policy.runtime.robots.faulty import Faulty
from vega_policy.runtime.robots.server import ArmServer

logger = logging.getLogger(__name__)

STILL_M_PER_S = 0.02  # slower than this an arm counts as still: a compliant one never stands exactly


@dataclass(frozen=True)
class Host:
    """What an arm's process is made of.

    Attributes:
        robot: the arm.
        clock: that stamps its readings.
        facts: told to a control loop when it connects.
        advance: called every period, for an arm that has to be moved on; returns what there is to say
            beside the reading.
        period_s: how often the arm is read.
        deadman_s: silence after which the arm holds.
        generator: for faults that a control loop may inject; None, as for a real arm, lets nobody inject any.
    """

    robot: Robot
    clock: Clock
    facts: Mapping[str, Any]
    advance: Callable[[], Mapping[str, Any]]
    period_s: float
    deadman_s: float
    generator: np.random.Generator | None = None

    def run(self, over: threading.Event, port: int, announce: Callable[[int], None]) -> None:
        """Serves the arm until it is over, then stops it, whatever ended this.

        A device that fails is tried again every period: meanwhile nothing is published, and whoever
        commands the arm sees its state grow old.

        Args:
            over: set from another thread or a signal's handler.
            port: to listen on; 0 takes a free one.
            announce: told the port once the arm can be reached.

        Raises:
            OSError: The port is taken, or the arm cannot be read at the beginning.
        """
        deadman = Deadman(self.robot, self.clock, self.deadman_s)
        faulty = Faulty(deadman, self.clock, self.generator) if self.generator is not None else None
        orders = {"inject": faulty.inject} if faulty is not None else {}
        server = ArmServer(faulty or deadman, self.clock, self.facts, orders)
        with server.listening(port) as listening_on:
            try:
                self._serve(server, deadman, faulty, over, lambda: announce(listening_on))
            finally:
                deadman.end()  # before connections are closed, which may take long

    def _serve(
        self,
        server: ArmServer,
        deadman: Deadman,
        faulty: Faulty | None,
        over: threading.Event,
        announce: Callable[[], None],
    ) -> None:
        stillness, outages = Stillness(self.robot.read().state), Outages(logger)
        announce()
        due_s, late_periods = self.clock.now_s(), 0
        while not over.is_set():
            due_s += self.period_s
            if self.clock.now_s() > due_s + self.period_s:  # not made up for: time has passed
                due_s, late_periods = self.clock.now_s(), late_periods + 1
            self.clock.sleep_until(due_s)
            try:
                status = self._pass_period(deadman, faulty, stillness)
                server.publish((faulty or deadman).read(), {**status, "late_periods": late_periods})
                outages.over("the arm's device")
            except OSError as error:
                outages.note("the arm's device", error)

    def _pass_period(self, deadman: Deadman, faulty: Faulty | None, stillness: "Stillness") -> dict[str, Any]:
        """One period of the arm; what there is to say of it beside the reading."""
        deadman.check()
        status = self.advance()
        if faulty is not None:
            faulty.update()
        stillness.update(self.robot.read().state)
        known = {
            "silences": deadman.num_silences,
            "silent_s": self.clock.now_s() - deadman.ordered_s,
            "still_s": stillness.lasted_s,
            "true_position_m": stillness.position_m,
            "true_time_s": stillness.time_s,
        }
        return {**status, **known}


class Stillness:
    """For how long an arm has stood still, by its own clock and whatever faults are injected above it."""

    def __init__(self, state: ArmState) -> None:
        self.position_m, self.time_s = state.position_m, state.time_s
        self.lasted_s = 0.0

    def update(self, state: ArmState) -> None:
        """Takes the next state in."""
        moved_m = float(np.linalg.norm(state.position_m - self.position_m))
        elapsed_s = state.time_s - self.time_s
        self.lasted_s = self.lasted_s + elapsed_s if moved_m <= STILL_M_PER_S * elapsed_s else 0.0
        self.position_m, self.time_s = state.position_m, state.time_s
