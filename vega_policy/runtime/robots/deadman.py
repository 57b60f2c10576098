"""An arm that holds by itself when whoever commands it falls silent.

It belongs in the process next to the arm: a control loop that was killed, or a cable that was pulled out,
cannot send a hold.
"""

import threading

from vega_policy.runtime.clock import Clock
from vega_policy.runtime.robots.base import Command, Reading, Robot


class Deadman:
    """A robot whose `check`, called every period, has it hold after a silence.

    Args:
        robot: the arm.
        clock: for the silence.
        limit_s: silence that is let pass. (LeKiwi stops after 0.5 s, Deoxys ends after 1 s.)

    Attributes:
        ordered_s: when the last order came.
        num_silences: how often it fell silent for too long.
    """

    def __init__(self, robot: Robot, clock: Clock, limit_s: float) -> None:
        self._robot, self._clock, self._limit_s = robot, clock, limit_s
        self._lock = threading.Lock()
        self.ordered_s = clock.now_s()
        self._was_stop = self._is_over = False
        self.num_silences = 0
        self._is_silent = False

    def read(self) -> Reading:
        """The robot's reading."""
        return self._robot.read()

    def command(self, command: Command) -> Command:
        """Passes an order on."""
        with self._lock:
            self._heard(was_stop=False)
            return self._robot.command(command)

    def hold(self) -> None:
        """Passes an order on."""
        with self._lock:
            self._heard(was_stop=False)
            self._robot.hold()

    def stop(self) -> None:
        """Passes an order on; an arm that was stopped stays so in a silence."""
        with self._lock:
            self._heard(was_stop=True)
            self._robot.stop()

    def check(self) -> None:
        """Holds, or stops again, if the silence has lasted too long; for the thread next to the arm."""
        with self._lock:
            if self._is_over or self._clock.now_s() - self.ordered_s <= self._limit_s:
                return
            self.num_silences += not self._is_silent
            self._is_silent = True
            if self._was_stop:
                self._robot.stop()
            else:
                self._robot.hold()

    def end(self) -> None:
        """Stops for good: no order is taken from now on.

        Raises:
            OSError: The arm does not take the stop; nothing else will be passed on either.
        """
        with self._lock:
            self._is_over = True
            self._robot.stop()

    def _heard(self, was_stop: bool) -> None:
        if self._is_over:
            raise ConnectionError("the arm's process is ending")
        self.ordered_s, self._was_stop, self._is_silent = self._clock.now_s(), was_stop, False
