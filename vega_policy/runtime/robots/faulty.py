"""A robot with the faults that real ones have, switched on and off from outside: for drills and tests.

Its place is next to the arm, before the arm's own dead-man's switch: what is delayed, dropped or frozen here
is the way between the arm and whoever commands it, never the arm's physics.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from vega_policy.names import nearest_name_error
from vega_policy.runtime.clock import Clock
from vega_policy.runtime.robots.base import ArmState, Command, Frame, Reading, Robot

MAX_PERIODS_KEPT = 1000


@dataclass(frozen=True)
class Faults:
    """What is wrong; nothing by default.

    Attributes:
        camera_delay_s: pictures arrive this much later; their times are the true ones.
        camera_drop: probability that a picture is lost.
        camera_freeze: no new pictures arrive.
        arm_delay_s: states and orders arrive this much later, each way.
        arm_drop: probability that a state or an order is lost.
        arm_freeze: the arm neither answers nor listens.
    """

    camera_delay_s: float = 0.0
    camera_drop: float = 0.0
    camera_freeze: bool = False
    arm_delay_s: float = 0.0
    arm_drop: float = 0.0
    arm_freeze: bool = False

    def changed(self, changes: Mapping[str, float | bool]) -> "Faults":
        """These faults, some of them changed.

        Raises:
            ValueError: There is no fault of that name.
        """
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                raise nearest_name_error("fault", name, known)
        return replace(self, **changes)  # type: ignore[arg-type]


class Faulty:
    """A robot with faults.

    `update` has to be called once a period: it lets measurements in and delayed orders out.

    Args:
        robot: the arm.
        clock: for delays.
        generator: for drops.
    """

    def __init__(self, robot: Robot, clock: Clock, generator: np.random.Generator) -> None:
        self._robot, self._clock, self._generator = robot, clock, generator
        self.faults = Faults()
        first = robot.read()
        self._state, self._frames = first.state, dict(first.frames)
        self._states: deque[tuple[float, ArmState]] = deque(maxlen=MAX_PERIODS_KEPT)
        self._pictures: deque[tuple[float, str, Frame]] = deque(maxlen=MAX_PERIODS_KEPT)
        self._orders: deque[tuple[float, Callable[[], object]]] = deque(maxlen=MAX_PERIODS_KEPT)
        self._newest_s = {name: frame.time_s for name, frame in first.frames.items()}

    def inject(self, message: Mapping[str, Any]) -> None:
        """Changes what is wrong: an order of the wire, with the changes under `faults`.

        Raises:
            ValueError: There is no fault of that name.
        """
        self.faults = self.faults.changed(message.get("faults") or {})

    def update(self) -> None:
        """Takes in what was measured since the last time, and hands delayed orders on."""
        now_s, faults, reading = self._clock.now_s(), self.faults, self._robot.read()
        if not self._is_lost(faults.arm_drop, faults.arm_freeze):
            self._states.append((now_s + faults.arm_delay_s, reading.state))
        for name, frame in reading.frames.items():
            is_new, self._newest_s[name] = frame.time_s > self._newest_s[name], frame.time_s
            if is_new and not self._is_lost(faults.camera_drop, faults.camera_freeze):
                self._pictures.append((now_s + faults.camera_delay_s, name, frame))
        self._deliver(now_s)

    def read(self) -> Reading:
        """What has arrived so far."""
        return Reading(self._state, dict(self._frames))

    def command(self, command: Command) -> Command:
        """On its way, or lost."""
        self._order(lambda: self._robot.command(command))
        return command

    def hold(self) -> None:
        """On its way, or lost."""
        self._order(self._robot.hold)

    def stop(self) -> None:
        """On its way, or lost."""
        self._order(self._robot.stop)

    def _order(self, order: Callable[[], object]) -> None:
        if self._is_lost(self.faults.arm_drop, self.faults.arm_freeze):
            return
        if self.faults.arm_delay_s > 0 or self._orders:
            self._orders.append((self._clock.now_s() + self.faults.arm_delay_s, order))
        else:
            order()

    def _deliver(self, now_s: float) -> None:
        while self._states and self._states[0][0] <= now_s:
            self._state = self._states.popleft()[1]
        while self._pictures and self._pictures[0][0] <= now_s:
            _, name, frame = self._pictures.popleft()
            self._frames[name] = frame
        while self._orders and self._orders[0][0] <= now_s:
            self._orders.popleft()[1]()

    def _is_lost(self, probability: float, is_frozen: bool) -> bool:
        return is_frozen or (probability > 0 and float(self._generator.random()) < probability)
