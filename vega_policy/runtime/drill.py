"""Fault drills: something is made to go wrong while an arm moves, and what the arm did is measured.

A drill does not know whether the arm is a process with a simulator or a few lines on a fake clock; `Stage`
says what it needs of either. Limits are checked anew here, from what was sent, not by asking the guard.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from vega_policy.runtime.limits import Limits
from vega_policy.runtime.loop import ControlLoop, TickReport
from vega_policy.runtime.recording import Recorder
from vega_policy.runtime.recordings import read_robot_recording
from vega_policy.runtime.robots.host import STILL_M_PER_S

ROWS = 16
GAIT = 0.6  # of full scale: 30 mm a period asked for
SWING_M = 0.06
TICKS_BEFORE, TICKS_AFTER = 16, 44


class ToAndFro:
    """A policy that swings the arm along x, so that there is a motion to stop.

    Args:
        middle_m: of the swing, on the x axis of the observation's frame.
    """

    def __init__(self, middle_m: float) -> None:
        self._middle_m, self._direction = middle_m, 1.0
        self.spoil: Callable[[np.ndarray], np.ndarray] = lambda chunk: chunk

    def reset(self, seed: int) -> None:
        """There is nothing to forget."""

    def act(self, observation: Mapping[str, Any]) -> Float[np.ndarray, "rows 7"]:
        """Towards the end of the swing that it is heading for."""
        offset_m = observation["robot_state"]["eef"]["pos"][0] - self._middle_m
        if abs(offset_m) > SWING_M:
            self._direction = -float(np.sign(offset_m))
        chunk = np.zeros((ROWS, 7))
        chunk[:, 0] = GAIT * self._direction
        chunk[:, 6] = -1.0
        return self.spoil(chunk)


class Track:
    """What happened, tick by tick; a `Watcher`.

    Args:
        true_motion: asks the arm itself, past all faults: a time on its own clock, and its position then.
    """

    def __init__(self, true_motion: Callable[[], tuple[float, Float[np.ndarray, " 3"]]]) -> None:
        self._true_motion = true_motion
        self.reports: list[TickReport] = []
        self.motion: list[tuple[float, Float[np.ndarray, " 3"]]] = []

    def watch(self, report: TickReport) -> None:
        """Takes a tick in."""
        self.reports.append(report)
        self.motion.append(self._true_motion())


class Stage(Protocol):
    """Where a drill takes place."""

    loop: ControlLoop
    track: Track
    recorder: Recorder
    limits: Limits
    period_s: float

    def tick(self) -> None:
        """One control period, arm included."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What a fault did.

    Attributes:
        fault: its name.
        reaction: the guard's answers in their order; "goes on" if there was none.
        still_after_s: from the fault until the arm stood still for the rest of the drill; None if it did not.
        top_speed_m_per_s: of the arm, measured past all faults.
        is_within_limits: of every command that was sent, and of that speed.
        num_rows: ticks that can be read from the recording.
        num_ticks: ticks there were.
    """

    fault: str
    reaction: str
    still_after_s: float | None
    top_speed_m_per_s: float
    is_within_limits: bool
    num_rows: int
    num_ticks: int

    def row(self) -> str:
        """A row of the table in Markdown."""
        still = "moves on" if self.still_after_s is None else f"{self.still_after_s:.2f}"
        limits = "none exceeded" if self.is_within_limits else "**exceeded**"
        recording = f"{self.num_rows} of {self.num_ticks} ticks"
        speed = f"{self.top_speed_m_per_s:.2f}"
        return f"| {self.fault} | {self.reaction} | {still} | {speed} | {limits} | {recording} |"


HEADER = (
    "| fault | what the arm did | still after (s) | top speed (m/s) | limits | recording readable |\n"
    "|---|---|---:|---:|---|---|"
)


def drill(
    fault: str, stage: Stage, inject: Callable[[], None], end: Callable[[], None] | None = None
) -> Outcome:
    """Lets the arm move, makes something go wrong, and looks on.

    Args:
        fault: its name.
        stage: where.
        inject: makes it go wrong.
        end: makes it right again after half of the time; None leaves it.
    """
    for _ in range(TICKS_BEFORE):
        stage.tick()
    first = len(stage.track.reports)
    inject()
    for index in range(TICKS_AFTER):
        if index == TICKS_AFTER // 2 and end is not None:
            end()
        stage.tick()
    stage.recorder.close()
    return judge(fault, stage, first)


def judge(fault: str, stage: Stage, first: int) -> Outcome:
    """The outcome of a drill whose fault came before tick `first`."""
    track, folder = stage.track, Path(stage.recorder.folder)
    speeds = speeds_m_per_s(track)
    still = ticks_until_still(speeds[max(first - 1, 0) :])
    top = max(speeds)
    is_within = all(is_allowed(report, stage.limits, stage.period_s) for report in track.reports)
    allowed = stage.limits.max_acceleration_m_per_s2 * (1 + 1e-9)
    is_within &= all(value <= allowed for value in accelerations(track.reports, stage.period_s))
    return Outcome(
        fault,
        reaction(track.reports[first:]),
        None if still is None else still * stage.period_s,
        top,
        is_within and top <= stage.limits.max_measured_speed_m_per_s,
        len(read_robot_recording(folder).rows),
        len(track.reports),
    )


def speeds_m_per_s(track: Track) -> list[float]:
    """Of the arm between ticks. Two ticks may see one state of the arm, so a speed is over four of them."""
    speeds = []
    for (start_s, start_m), (end_s, end_m) in zip(track.motion, track.motion[4:], strict=False):
        distance_m = float(np.linalg.norm(end_m - start_m))
        speeds.append(distance_m / (end_s - start_s) if end_s > start_s else 0.0)
    return speeds


def ticks_until_still(speeds_m_per_s: list[float]) -> int | None:
    """After how many ticks the arm was still and remained so; None if it never was."""
    moving = [index for index, speed in enumerate(speeds_m_per_s) if speed > STILL_M_PER_S]
    if not moving:
        return 0
    return None if moving[-1] >= len(speeds_m_per_s) - 1 else moving[-1] + 1


def reaction(reports: list[TickReport]) -> str:
    """The guard's answers, in words."""
    actions = [
        "moves"
        if report.decision.safe_action is None
        else report.decision.safe_action.name.lower().replace("_", " ")
        for report in reports
    ]
    names = [name for name, _ in groupby(actions)]
    faults = [str(fault.kind) for report in reports for fault in report.decision.new_faults]
    answer = ", ".join(names) if names != ["moves"] else "goes on"
    return f"{answer} ({'; '.join(faults)})" if faults else answer


def is_allowed(report: TickReport, limits: Limits, period_s: float) -> bool:
    """Whether what was sent in a tick was within the limits."""
    if report.sent is None:
        return True
    step_m = float(np.linalg.norm(report.sent.translation_m))
    step_rad = float(np.linalg.norm(report.sent.rotation_rad))
    if not np.isfinite([step_m, step_rad, report.sent.gripper_width_m]).all() or report.reading is None:
        return False
    target_m = report.reading.state.position_m + report.sent.translation_m
    low_m, high_m = np.asarray(limits.workspace_low_m), np.asarray(limits.workspace_high_m)
    outward = ((target_m < low_m) & (report.sent.translation_m < 0)) | (
        (target_m > high_m) & (report.sent.translation_m > 0)
    )
    slack = 1 + 1e-9
    return bool(
        step_m <= min(limits.max_step_m, limits.max_speed_m_per_s * period_s) * slack
        and step_rad <= min(limits.max_step_rad, limits.max_speed_rad_per_s * period_s) * slack
        and 0 <= report.sent.gripper_width_m <= limits.max_gripper_width_m
        and not (outward & (np.abs(report.sent.translation_m) > 1e-9)).any()
    )


def accelerations(reports: list[TickReport], period_s: float) -> list[float]:
    """Increases of the speed asked for along an axis, between commands sent in successive ticks, in m/s2."""
    return [
        float(np.max(np.abs(new.sent.translation_m) - np.abs(old.sent.translation_m))) / period_s**2
        for old, new in pairwise(reports)
        if old.sent is not None and new.sent is not None
    ]
