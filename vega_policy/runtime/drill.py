"""Fault drills: something is made to go wrong while an arm moves, and what the arm did is measured.

A drill does not know whether the arm is a process with a simulator or a few lines on a fake clock; `Stage`
says what it needs of either. Limits are checked by a `Witness`, from what was sent and where the arm was, and
not by asking the guard.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from vega_policy.runtime.limits import Limits
from vega_policy.runtime.loop import ControlLoop, TickReport
from vega_policy.runtime.recording import Recorder
from vega_policy.runtime.recordings import read_robot_recording
from vega_policy.runtime.robots.host import STILL_M_PER_S
from vega_policy.runtime.witness import Witness

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
        broken_limits: by a command that was sent, or by the arm's own speed or place; none if all is well.
        num_rows: ticks that can be read from the recording.
        num_ticks: ticks there were.
    """

    fault: str
    reaction: str
    still_after_s: float | None
    top_speed_m_per_s: float
    broken_limits: tuple[str, ...]
    num_rows: int
    num_ticks: int

    def row(self) -> str:
        """A row of the table in Markdown."""
        still = "moves on" if self.still_after_s is None else f"{self.still_after_s:.2f}"
        limits = f"**{', '.join(self.broken_limits)}**" if self.broken_limits else "none exceeded"
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
    return Outcome(
        fault,
        reaction(track.reports[first:]),
        None if still is None else still * stage.period_s,
        max(speeds),
        broken_limits(track, stage.limits, stage.period_s),
        len(read_robot_recording(folder).rows),
        len(track.reports),
    )


def broken_limits(track: Track, limits: Limits, period_s: float) -> tuple[str, ...]:
    """Names the limits that a command or the arm itself broke, each once."""
    names = [*broken_by_commands(track.reports, limits, period_s)]
    if not max(speeds_m_per_s(track)) <= limits.max_measured_speed_m_per_s:
        names.append("measured speed")
    if not all(is_inside(position_m, limits) for _, position_m in track.motion):
        names.append("measured place")
    return tuple(dict.fromkeys(names))


def broken_by_commands(reports: Sequence[TickReport], limits: Limits, period_s: float) -> Iterator[str]:
    """What a witness has against the commands that were sent."""
    witness, last_s = Witness(limits), None
    for report in reports:
        elapsed_s = period_s if last_s is None else min(report.now_s - last_s, period_s)
        last_s = report.now_s
        if report.sent is None:
            witness.stands()
        elif report.reading is None:
            yield "no measured state"
        else:
            yield from witness.sees(report.sent, report.reading.state, elapsed_s)


def is_inside(position_m: Float[np.ndarray, " 3"], limits: Limits) -> bool:
    """Whether an end effector is in the workspace, or no farther outside than is tolerated."""
    low_m, high_m = np.asarray(limits.workspace_low_m), np.asarray(limits.workspace_high_m)
    return bool(np.maximum(low_m - position_m, position_m - high_m).max() <= limits.workspace_tolerance_m)


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
