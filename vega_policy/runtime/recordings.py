"""Recordings of a robot read back, whole or cut off, and put together as a LeRobotDataset to train from.

`action` is what the arm was really sent, in the policy's units, so a policy trained on deployments learns
from what happened. What the policy had asked for, and what the guard did about it, have columns of their own.
"""

import itertools
import json
import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

from vega_policy.runtime.recording import RUN, TICKS, film_path
from vega_policy.training.libero_data import ACTION_KEY, FPS, IMAGE_KEYS, STATE_KEY, VECTORS

if TYPE_CHECKING:
    from vega_policy.training.demonstrations import Demonstration

logger = logging.getLogger(__name__)

PROVENANCE_KEY = "robot_recordings"
JOINTS_KEY, ASKED_KEY, CONTROL_KEY = "observation.joints", "policy_action", "control"
CONTROL = (
    *("time_s", "has_policy_action", "is_sent", "safe_action", "interventions", "new_faults"),
    *("state_age_s", "oldest_frame_age_s"),
)
"""Of the column `control`; `safe_action` is 0 for none, else as in `faults.SafeAction`."""


@dataclass(frozen=True)
class RobotRecording:
    """What can be read of a recording.

    Attributes:
        folder: where it is.
        facts: of the run.
        rows: one per tick, as the recorder wrote them; every film has at least as many frames.
    """

    folder: Path
    facts: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]

    def columns(self) -> dict[str, Float32[NDArray[np.float32], "ticks size"]]:
        """The rows' numbers by the dataset's keys."""
        none = [0.0] * len(VECTORS[ACTION_KEY])
        columns = {
            STATE_KEY: [row[STATE_KEY] for row in self.rows],
            ACTION_KEY: [row[ACTION_KEY] for row in self.rows],
            JOINTS_KEY: [row["joints_rad"] for row in self.rows],
            ASKED_KEY: [row["policy_action"] or none for row in self.rows],
            CONTROL_KEY: [_control(row, self.rows[0]["now_s"]) for row in self.rows],
        }
        return {key: np.array(values, np.float32) for key, values in columns.items()}


def _control(row: Mapping[str, Any], start_s: float) -> list[float]:
    return [
        row["now_s"] - start_s,
        row["policy_action"] is not None,
        row["is_sent"],
        row["safe_action"],
        len(row["interventions"]),
        len(row["new_faults"]),
        row["state_age_s"],
        max(row["frame_ages_s"].values(), default=0.0),
    ]


def read_robot_recording(folder: Path) -> RobotRecording:
    """Reads as much of a recording as all its files have.

    Raises:
        FileNotFoundError: There is no recording.
        ValueError: Its `run.json` is no JSON.
    """
    facts = json.loads((folder / RUN).read_text(encoding="utf-8"))
    rows = list(_whole_lines(folder / TICKS))
    num_frames = [count_frames(film_path(folder, key)) for key in IMAGE_KEYS.values()]
    return RobotRecording(folder, facts, rows[: min(num_frames)])


def recordings_to_dataset(folders: Sequence[Path], root: Path) -> int:
    """Writes one episode per recording, replacing a dataset that was written there before.

    Returns:
        The number of episodes; recordings without a single tick, or torn, are left out, the latter with a
        warning.

    Raises:
        ValueError: No recording has a tick, or they differ in rate, picture size or number of joints.
        FileExistsError: `root` holds something else.
    """
    from vega_policy.training.demonstrations import write_dataset

    _refuse_foreign(root)
    recordings = [recording for recording in _readable(folders) if recording.rows]
    if not recordings:
        raise ValueError("there is nothing to put into a dataset: no recording has a tick")
    size_px, num_joints = _common(recordings)
    joints = [f"joint_{index}_rad" for index in range(num_joints)]
    extra = {JOINTS_KEY: joints, ASKED_KEY: VECTORS[ACTION_KEY], CONTROL_KEY: CONTROL}
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}.films") as scratch:
        demonstrations = [_demonstration(item, Path(scratch) / item.folder.name) for item in recordings]
        write_dataset(root, demonstrations, size_px, {PROVENANCE_KEY: len(recordings)}, extra)
    return len(recordings)


def _readable(folders: Sequence[Path]) -> Iterator[RobotRecording]:
    for folder in folders:
        try:
            yield read_robot_recording(folder)
        except (OSError, ValueError) as error:  # of which broken JSON is one
            logger.warning("the recording in %s is left out, it cannot be read: %s", folder, error)


def refuse_unrecordable(
    root: Path, rate_hz: float, cameras: Collection[str], image_size_px: int, earlier: Sequence[Path]
) -> None:
    """Finds out before a run what would keep its recording out of a dataset.

    Args:
        root: where the dataset shall be.
        rate_hz: of the control loop.
        cameras: the policy's names of them.
        image_size_px: of what is recorded.
        earlier: folders of the recordings that the dataset has already.

    Raises:
        ValueError: The rate or the cameras are not those of LIBERO's data, or the pictures are not of the
            earlier recordings' size.
        FileExistsError: `root` holds something else than recordings of robots.
    """
    if rate_hz != FPS or not set(IMAGE_KEYS) <= set(cameras):
        raise ValueError(
            f"expected an arm at {FPS} Hz with the cameras {', '.join(IMAGE_KEYS)} to record, as in LIBERO's "
            f"data; got {rate_hz:g} Hz and {', '.join(cameras) or 'no camera'}"
        )
    _refuse_foreign(root)
    for recording in _readable(earlier):
        if recording.rows and recording.facts["image_size_px"] != image_size_px:
            raise ValueError(
                f"expected pictures of {recording.facts['image_size_px']} px, as in {recording.folder}, got "
                f"{image_size_px}: set the arm's image_size_px, or record into another folder"
            )


def _refuse_foreign(root: Path) -> None:
    """A dataset is written anew from its recordings, so one of something else would be lost."""
    if not root.exists():
        return
    from vega_policy.training.demonstrations import read_provenance

    if PROVENANCE_KEY in read_provenance(root):
        return
    raise FileExistsError(
        f"expected a new folder or a dataset made of recordings, {root} is neither: choose another one"
    )


def count_frames(film: Path) -> int:
    """Frames that can be read from a film, which may be cut off, empty or missing."""
    return sum(1 for _ in _packets(film))


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:  # cut off
                return


def _packets(film: Path) -> Iterator[Any]:
    import av

    if not film.exists():
        return
    try:
        with av.open(str(film)) as container:
            yield from (
                packet for packet in container.demux(video=0) if packet.size and packet.pts is not None
            )
    except (av.error.FFmpegError, IndexError):  # cut off: within a packet, or before the film began
        return


def _common(recordings: Sequence[RobotRecording]) -> tuple[int, int]:
    """The picture size and number of joints that all have."""
    kinds = {
        (
            item.facts["image_size_px"],
            item.facts["rate_hz"],
            len(item.rows[0]["joints_rad"]),
        ): item.folder.name
        for item in recordings
    }
    if len(kinds) > 1:
        raise ValueError(f"expected recordings of one picture size, rate and number of joints, got {kinds}")
    size_px, rate_hz, num_joints = next(iter(kinds))
    if rate_hz != FPS:
        raise ValueError(f"expected recordings at {FPS} Hz, LIBERO's rate, got {rate_hz} Hz")
    return size_px, num_joints


def _demonstration(recording: RobotRecording, scratch: Path) -> "Demonstration":
    from vega_policy.training.demonstrations import Demonstration

    scratch.mkdir()
    films, histograms = {}, {}
    for key in IMAGE_KEYS.values():
        films[key] = scratch / f"{key}.mp4"
        _cut(film_path(recording.folder, key), films[key], len(recording.rows))
        histograms[key] = _histogram(films[key])
    facts = {**recording.facts, "recording": recording.folder.name, "steps": len(recording.rows)}
    return Demonstration(str(recording.facts["task"]), recording.columns(), films, histograms, facts)


def _cut(source: Path, target: Path, num_frames: int) -> None:
    """The first frames of a film as mp4, without encoding them anew."""
    import av

    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0], opaque=True)
        stream.time_base = read.streams.video[0].time_base
        packets = (packet for packet in read.demux(video=0) if packet.size and packet.pts is not None)
        for packet in itertools.islice(packets, num_frames):
            packet.stream = stream
            written.mux(packet)


def _histogram(film: Path) -> Int64[NDArray[np.int64], "3 256"]:
    """How often each level of each channel occurs."""
    import av

    histogram = np.zeros((3, 256), np.int64)
    with av.open(str(film)) as container:
        for frame in container.decode(video=0):
            picture = frame.to_ndarray(format="rgb24")
            for channel, counts in enumerate(histogram):
                counts += np.bincount(picture[..., channel].ravel(), minlength=256)
    return histogram
