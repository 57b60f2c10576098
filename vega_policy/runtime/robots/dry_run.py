"""A robot that is read and never moved: what would be sent is printed."""

from collections.abc import Callable

import numpy as np

from vega_policy.runtime.robots.base import Command, Reading, Robot


class DryRun:
    """Reads a robot and prints the orders that it does not pass on.

    Args:
        robot: only its `read` is called.
        show: takes a line.
    """

    def __init__(self, robot: Robot, show: Callable[[str], None] = print) -> None:
        self._robot, self._show = robot, show
        self._last = ""

    def read(self) -> Reading:
        """The robot's reading."""
        return self._robot.read()

    def command(self, command: Command) -> Command:
        """Prints a displacement."""
        numbers = np.array2string(
            np.concatenate([command.translation_m * 1000, np.rad2deg(command.rotation_rad)]),
            precision=2,
            suppress_small=True,
            floatmode="fixed",
        )
        self._say(f"move {numbers} mm, deg; fingers {command.gripper_width_m * 1000:.1f} mm apart")
        return command

    def hold(self) -> None:
        """Prints that the arm would hold, once for a row of them."""
        self._say("hold")

    def stop(self) -> None:
        """Prints that the arm would stop, once for a row of them."""
        self._say("stop")

    def _say(self, line: str) -> None:
        if line not in ("hold", "stop") or line != self._last:
            self._show(f"would {line}")
        self._last = line
