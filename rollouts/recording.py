"""Recordings of episodes: what was seen, step by step, and what an expert would have done there.

A recording is a folder that appears under its name in one step when its episode has ended, so a killed worker
leaves none half-written: `frames.npz` with one row per step, a film per camera and `recording.json`. Films
stream to the encoder, so memory does not grow with the episode.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float32, Int64, UInt8
from numpy.typing import NDArray

from vega_policy.rollouts.files import sync

Picture = UInt8[NDArray[np.uint8], "height width 3"]
Describe = Callable[[Mapping[str, Any]], Mapping[str, NDArray[Any]]]
"""From an observation to what is kept of it: vectors, and upright pictures (height, width, 3)."""

ACTION = "action"
LEVELS = 256  # of a colour channel
MOTION_STREAM = 1
"""Of random numbers, apart from those by which an expert takes over (`demonstrator`)."""

CODEC_OPTIONS = {"crf": "18", "preset": "fast", "g": "2", "bf": "0", "threads": "1"}
"""x264: every second frame can be decoded by itself, for shuffled reading; one thread, so that the bytes
depend on the pictures alone."""


@dataclass(frozen=True)
class Recording:
    """A finished recording, read from its folder.

    Attributes:
        columns: Vectors by name, shape (steps, size), among them `action`.
        films: Files by camera.
        histograms: How often each colour level occurs, per camera and channel, over all pixels of all frames.
        facts: What `recording.json` says.
    """

    columns: Mapping[str, Float32[NDArray[np.float32], "steps size"]]
    films: Mapping[str, Path]
    histograms: Mapping[str, Int64[NDArray[np.int64], "3 256"]]
    facts: Mapping[str, Any]


class EpisodeWriter:
    """Writes one recording.

    Args:
        path: The recording's folder, which must not exist.
        frames_per_s: The control rate in Hz.
    """

    def __init__(self, path: Path, frames_per_s: int) -> None:
        self._path, self._frames_per_s = path, frames_per_s
        self._partial = path.with_name(f".{path.name}.partial")
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        self._rows: dict[str, list[NDArray[np.float32]]] = {}
        self._films: dict[str, _Film] = {}

    def add(self, kept: Mapping[str, NDArray[Any]]) -> None:
        """Append a step: vectors, and pictures with even height and width."""
        for name, value in kept.items():
            if value.ndim == 1:
                self._rows.setdefault(name, []).append(value.astype(np.float32))
            else:
                self._film(name).add(value)

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Put the recording in its place."""
        for film in self._films.values():
            film.close()
        columns = {f"columns/{name}": np.stack(rows) for name, rows in self._rows.items()}
        counts = {f"histograms/{name}": film.histogram for name, film in self._films.items()}
        np.savez(self._partial / "frames.npz", allow_pickle=False, **columns, **counts)
        (self._partial / "recording.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        for file in self._partial.iterdir():
            sync(file)  # before the row that counts it: no row without its recording, also after a power cut
        self._partial.replace(self._path)
        sync(self._path.parent)

    def discard(self) -> None:
        """Remove what was written."""
        for film in self._films.values():
            film.close()
        shutil.rmtree(self._partial, ignore_errors=True)

    def _film(self, name: str) -> "_Film":
        if name not in self._films:
            self._films[name] = _Film(self._partial / f"{name}.mp4", self._frames_per_s)
        return self._films[name]


def read_recording(path: Path) -> Recording:
    """Read a recording's numbers; its films stay where they are.

    Raises:
        FileNotFoundError: If there is no recording.
    """
    with np.load(path / "frames.npz", allow_pickle=False) as stored:
        sections: dict[str, dict[str, Any]] = {"columns": {}, "histograms": {}}
        for entry in stored.files:
            section, _, name = entry.partition("/")
            sections[section][name] = stored[entry]
    films = {name: path / f"{name}.mp4" for name in sections["histograms"]}
    facts = json.loads((path / "recording.json").read_text(encoding="utf-8"))
    return Recording(sections["columns"], films, sections["histograms"], facts)


class RecordingEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Records every episode that succeeds, or every one.

    An action is a chunk of pairs, shape (T, 2, action size): what is executed, and what is written down as
    the right thing to do in that state. A labelled chunk is one step; one whose labels are NaN is performed
    and not written down. An episode that was solved before any step was written down leaves no recording and
    counts as one without success. The trial of `reset` only names the recording, and selects nothing.

    Args:
        env: Steps chunks of actions; its `info` has `is_success` and `steps`.
        folder: Where the recordings of this task go, as `trial00000` and so on.
        describe: What is kept of an observation.
        frames_per_s: The control rate in Hz.
        reset_options: What `env` is reset with.
        start_steps: Before the recording starts, the arm makes one random motion of up to this many steps.
        keep_failures: Record episodes without success as well.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        folder: Path,
        describe: Describe,
        *,
        frames_per_s: int,
        reset_options: Mapping[str, Any],
        start_steps: int = 0,
        keep_failures: bool = False,
    ) -> None:
        super().__init__(env)
        self._folder, self._describe, self._frames_per_s = folder, describe, frames_per_s
        self._reset_options, self._start_steps = dict(reset_options), start_steps
        self._keep_failures = keep_failures
        self._writer: EpisodeWriter | None = None
        self._seed: int | None = None
        self._observation: Any = None
        self._recorded = 0
        self._solved_at: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode and its recording; `options` has its `trial`."""
        self._drop()
        path = recording_path(self._folder, (options or {})["trial"])
        shutil.rmtree(path, ignore_errors=True)
        observation, info = self.env.reset(seed=seed, options=self._reset_options)
        stream = np.random.SeedSequence(seed, spawn_key=(MOTION_STREAM,))
        motion = self._start_motion(np.random.default_rng(stream))
        if len(motion) > 0:
            observation, _, _, _, info = self.env.step(motion)
        self._writer = EpisodeWriter(path, self._frames_per_s)
        self._seed, self._observation = seed, observation
        self._recorded, self._solved_at = 0, None
        return observation, info

    def step(self, action: NDArray[np.floating]) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Write down the observation with its label, then perform the action."""
        if self._writer is None:
            raise gymnasium.error.ResetNeeded("no recording has begun: call reset() before step()")
        executed, labels = np.asarray(action, dtype=np.float32).swapaxes(0, 1)
        if np.isfinite(labels).all():
            (label,) = labels
            self._writer.add({**self._describe(self._observation), ACTION: label})
            self._recorded += 1
        self._observation, reward, terminated, truncated, info = self.env.step(executed)
        if info["is_success"] and self._solved_at is None:
            self._solved_at = self._recorded
        if terminated or truncated:
            info = {**info, "is_success": bool(info["is_success"]) and bool(self._solved_at)}
            self._end(info["is_success"], holds=float(reward) > 0)
        return self._observation, reward, terminated, truncated, info

    def close(self) -> None:
        """Discard what is unfinished."""
        self._drop()
        super().close()

    def _start_motion(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """One direction of the arm's dimensions, all but the last, which keeps the gripper open."""
        (size,) = self.env.action_space.shape or ()
        motion = np.full((int(rng.integers(self._start_steps + 1)), size), -1.0, np.float32)
        motion[:, :-1] = rng.uniform(-1, 1, size - 1)
        return motion

    def _end(self, success: bool, holds: bool) -> None:
        assert self._writer is not None
        if success or (self._keep_failures and self._recorded > 0):
            self._writer.finish(
                {
                    "seed": self._seed,
                    "steps": self._recorded,
                    "success": success,
                    "first_success_step": self._solved_at,
                    "goal_holds_at_end": holds,
                }
            )
        else:
            self._writer.discard()
        self._writer = None

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.discard()
        self._writer = None


def recording_path(folder: Path, trial: int) -> Path:
    """Folder of a trial's recording within that of its task."""
    return folder / f"trial{trial:05d}"


class _Film:
    """One camera's H.264 film, with the histogram of its pictures."""

    def __init__(self, path: Path, frames_per_s: int) -> None:
        import av

        self.histogram = np.zeros((3, LEVELS), np.int64)
        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream("libx264", rate=frames_per_s, options=CODEC_OPTIONS)
        self._stream.pix_fmt = "yuv420p"

    def add(self, picture: Picture) -> None:
        import av

        self._stream.height, self._stream.width = picture.shape[:2]
        for channel, counts in enumerate(self.histogram):
            counts += np.bincount(picture[..., channel].ravel(), minlength=LEVELS)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder still holds."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
