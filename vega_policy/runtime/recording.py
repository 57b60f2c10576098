"""Everything a control loop saw and did, on disk as it happens: a crash ends it and does not take it away.

A recording is a folder: `run.json`, `ticks.jsonl` with a line per tick, and a film per camera in Matroska,
which needs no ending to be read. The k-th line belongs to the k-th frame of every film; whatever one file has
beyond the others was cut off. Ticks in which the arm did not say where it is have their lines in
`unseen.jsonl`. `recordings_to_dataset` strings recordings together as a LeRobotDataset.
"""

import json
import logging
import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from vega_policy.runtime.faults import is_pose
from vega_policy.runtime.loop import TickReport
from vega_policy.runtime.observing import Observer, action_of
from vega_policy.runtime.robots.base import Command, EndEffectorDelta, Reading
from vega_policy.training.libero_data import ACTION_KEY, STATE_KEY, libero_frame

logger = logging.getLogger(__name__)

RUN, TICKS, UNSEEN = "run.json", "ticks.jsonl", "unseen.jsonl"
CODEC = {"crf": "18", "preset": "veryfast", "tune": "zerolatency", "g": "2", "bf": "0", "threads": "1"}
"""x264: no frame waits for later ones, and every second can be decoded by itself."""
CONTAINER = {"cluster_time_limit": "100", "flush_packets": "1"}  # ms: what a crash may take with it
MAX_TICKS_WAITING = 200  # 10 s at 20 Hz


class RecordingError(RuntimeError):
    """The recording has ended early; what was written before stays readable."""


class Recorder:
    """Writes ticks in a thread of its own; a `Watcher`.

    Args:
        folder: of the recording; must not exist.
        observer: describes readings as the policy sees them.
        actions: what a policy's numbers mean.
        rate_hz: of the loop.
        facts: what else identifies the recording, among them `task`.
    """

    def __init__(
        self,
        folder: Path,
        observer: Observer,
        actions: EndEffectorDelta,
        rate_hz: float,
        facts: Mapping[str, Any],
    ) -> None:
        folder.mkdir(parents=True)
        run = {**facts, "rate_hz": rate_hz, "image_size_px": observer.image_size_px}
        (folder / RUN).write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
        self.folder = folder
        self._observer, self._actions, self._rate_hz = observer, actions, rate_hz
        self._ticks: queue.Queue[TickReport | None] = queue.Queue(MAX_TICKS_WAITING)
        self._films: dict[str, _Film] = {}
        self._failure: Exception | None = None
        self._last_width_m: float | None = None
        self._thread = threading.Thread(target=self._write_all, name="recorder")
        self._thread.start()

    def watch(self, report: TickReport) -> None:
        """Queues a tick.

        Raises:
            RecordingError: The disk is full or cannot keep up.
        """
        if self._failure is not None:
            raise RecordingError(f"the recording has ended: {self._failure}") from self._failure
        try:
            self._ticks.put_nowait(report)
        except queue.Full:
            self._failure = RecordingError(f"the disk is {MAX_TICKS_WAITING} ticks behind")
            raise self._failure from None

    def close(self) -> None:
        """Writes what is queued and ends the films; says in the log if something was lost."""
        if self._thread.is_alive():
            self._ticks.put(None)
        self._thread.join()
        if self._failure is not None:
            logger.error("the recording in %s ends early: %s", self.folder, self._failure)

    def _write_all(self) -> None:
        try:
            with self._lines(TICKS) as lines, self._lines(UNSEEN) as unseen:
                while (report := self._ticks.get()) is not None:
                    self._write(report, lines, unseen)
        except Exception as error:  # whatever a disk or an encoder raises: the arm goes on
            self._failure = error
            while self._ticks.get() is not None:  # so that nobody waits for a place in a full queue
                pass
        self._end_films()

    def _lines(self, name: str) -> TextIO:
        return (self.folder / name).open("w", encoding="utf-8", buffering=1)

    def _write(self, report: TickReport, lines: TextIO, unseen: TextIO) -> None:
        reading = report.reading
        if reading is None or not is_pose(reading.state, np.size(reading.state.joints_rad)):
            unseen.write(json.dumps(_decided(report)) + "\n")
            return
        kept = libero_frame(self._observer.observation(reading, ""))
        for key, value in kept.items():
            if value.ndim == 3:
                self._film(key).add(value)
        if report.sent is not None:
            self._last_width_m = report.sent.gripper_width_m
        elif self._last_width_m is None:  # nothing was sent yet: the gripper is left as it is
            self._last_width_m = reading.state.gripper_width_m
        row = self._row(report, reading, kept[STATE_KEY], self._last_width_m)
        lines.write(json.dumps(row) + "\n")

    def _end_films(self) -> None:
        for film in self._films.values():
            try:
                film.close()
            except Exception as error:
                self._failure = self._failure or error

    def _film(self, key: str) -> "_Film":
        if key not in self._films:
            self._films[key] = _Film(film_path(self.folder, key), round(self._rate_hz))
        return self._films[key]

    def _row(
        self, report: TickReport, reading: Reading, state: NDArray[Any], last_width_m: float
    ) -> dict[str, Any]:
        """One tick in JSON; a hold counts as an action without motion."""
        arm = reading.state
        sent = report.sent or Command(np.zeros(3), np.zeros(3), last_width_m)
        action = np.clip(action_of(sent, self._actions), -1.0, 1.0)
        return {
            STATE_KEY: state.tolist(),
            ACTION_KEY: action.tolist(),
            "joints_rad": arm.joints_rad.tolist(),
            "state_age_s": report.now_s - arm.time_s,
            "frame_ages_s": {name: report.now_s - frame.time_s for name, frame in reading.frames.items()},
            **_decided(report),
        }


def _decided(report: TickReport) -> dict[str, Any]:
    """What was asked, decided and sent in a tick, in JSON."""
    decision = report.decision
    return {
        "now_s": report.now_s,
        "policy_action": None if report.played is None else report.played.action.tolist(),
        "is_sent": report.sent is not None,
        "safe_action": int(decision.safe_action or 0),
        "interventions": [[item.limit, item.asked, item.allowed] for item in decision.interventions],
        "new_faults": [str(fault) for fault in decision.new_faults],
    }


def film_path(folder: Path, key: str) -> Path:
    """Where a camera's film is."""
    return folder / f"{key}.mkv"


class _Film:
    """One camera's film."""

    def __init__(self, path: Path, frames_per_s: int) -> None:
        import av

        self._container = av.open(str(path), "w", options=CONTAINER)
        self._stream = self._container.add_stream("libx264", rate=frames_per_s, options=CODEC)
        self._stream.pix_fmt = "yuv420p"

    def add(self, picture: NDArray[np.uint8]) -> None:
        import av

        self._stream.height, self._stream.width = picture.shape[:2]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder still holds."""
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()
