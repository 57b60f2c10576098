"""The process next to an arm: it measures every period, executes orders, and holds when nobody gives any."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vega_policy.runtime.clock import Clock
from vega_policy.runtime.robots.base import Robot
from vega_policy.runtime.robots.deadman import Deadman
from vega_policy.runtime.robots.faulty import Faulty
from vega_policy.runtime.robots.server import ArmServer


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
        generator: for faults that somebody injects.
    """

    robot: Robot
    clock: Clock
    facts: Mapping[str, Any]
    advance: Callable[[], Mapping[str, Any]]
    period_s: float
    deadman_s: float
    generator: np.random.Generator

    def run(self, over: threading.Event, port: int, announce: Callable[[int], None]) -> None:
        """Serves the arm until it is over.

        Args:
            over: set from another thread or a signal's handler.
            port: to listen on; 0 takes a free one.
            announce: told the port once the arm can be reached.

        Raises:
            OSError: The port is taken, or the arm cannot be read.
        """
        deadman = Deadman(self.robot, self.clock, self.deadman_s)
        faulty = Faulty(deadman, self.clock, self.generator)

        def inject(message: Mapping[str, Any]) -> None:
            faulty.faults = faulty.faults.changed(message.get("faults") or {})

        server = ArmServer(faulty, self.clock, self.facts, {"inject": inject})
        with server.listening(port) as listening_on:
            announce(listening_on)
            due_s, late_periods = self.clock.now_s(), 0
            while not over.is_set():
                due_s += self.period_s
                if self.clock.now_s() > due_s + self.period_s:  # not made up for: time has passed
                    due_s, late_periods = self.clock.now_s(), late_periods + 1
                self.clock.sleep_until(due_s)
                deadman.check()
                status = self.advance()
                faulty.update()
                counts = {"late_periods": late_periods, "silences": deadman.num_silences}
                server.publish(faulty.read(), {**status, **counts})
