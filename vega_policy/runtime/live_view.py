"""A live view of a control loop in rerun: cameras, the arm's position, what was sent and found wrong."""

from typing import Any

import numpy as np

from vega_policy.runtime.loop import TickReport
from vega_policy.runtime.robots.base import Command

AXES = ("x_m", "y_m", "z_m")


class LiveView:
    """Hands every tick to rerun, which sends it from a thread of its own; a `Watcher`.

    Args:
        sink: a rerun `RecordingStream`; a new one with a viewer's window when None.
    """

    def __init__(self, sink: Any = None) -> None:
        import rerun

        self._rerun = rerun
        self._sink = sink or rerun.RecordingStream("vega-robot")
        if sink is None:
            self._sink.spawn()
        self._shown_s: dict[str, float] = {}

    def watch(self, report: TickReport) -> None:
        """Shows a tick."""
        self._sink.set_time("loop", duration=report.now_s)
        if report.reading is not None:
            self._show_position("measured", report.reading.state.position_m)
            self._show_frames(report)
        if report.sent is not None:
            self._show_command(report.sent)
        for item in report.decision.interventions:
            self._sink.log("guard", self._rerun.TextLog(str(item), level="WARN"))
        for fault in report.decision.new_faults:
            self._sink.log("guard", self._rerun.TextLog(str(fault), level="ERROR"))

    def _show_position(self, name: str, position_m: np.ndarray) -> None:
        for axis, value in zip(AXES, position_m, strict=True):
            self._sink.log(f"{name}/{axis}", self._rerun.Scalars(float(value)))

    def _show_frames(self, report: TickReport) -> None:
        assert report.reading is not None
        for name, frame in report.reading.frames.items():
            if self._shown_s.get(name) != frame.time_s:
                self._shown_s[name] = frame.time_s
                self._sink.log(f"cameras/{name}", self._rerun.Image(frame.pixels))

    def _show_command(self, sent: Command) -> None:
        for axis, value in zip(AXES, sent.translation_m, strict=True):
            self._sink.log(f"sent/{axis}", self._rerun.Scalars(float(value)))
        self._sink.log("sent/gripper_width_m", self._rerun.Scalars(sent.gripper_width_m))
