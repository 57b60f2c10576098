"""Films of episodes: mp4 at the control rate, one frame per control step.

A film appears under its name only once it is complete, so a killed worker leaves no broken one behind.
"""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vega_policy.rollouts.episode import Episode, Task

FRAMES_PER_S = 20  # LIBERO's control rate in Hz: the film plays in real time


def video_name(task: Task, trial: int) -> str:
    """File of an episode's film, relative to the results folder."""
    return f"videos/{task.suite}_task{task.task_id:02d}_trial{trial:03d}.mp4"


class VideoRecorder:
    """A frame sink that writes H.264; use it as a context manager.

    Frames stream to the encoder, so memory does not grow with the episode. Leaving the context by an
    exception discards the film.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_suffix(".partial.mp4")
        self._writer: Any = None

    def add(self, frames: Sequence[NDArray[np.uint8]]) -> None:
        """Append upright RGB frames (height, width, 3) with even height and width."""
        for frame in frames:
            self._open().append_data(np.ascontiguousarray(frame))

    def _open(self) -> Any:
        if self._writer is None:
            import imageio.v2

            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = imageio.v2.get_writer(
                self._partial, fps=FRAMES_PER_S, codec="libx264", macro_block_size=2, ffmpeg_log_level="error"
            )
        return self._writer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is None:
            return
        self._writer.close()
        if kind is None:
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)


def recorder_for(episode: Episode, root: Path) -> VideoRecorder | None:
    """A recorder for an episode that is to be filmed, None for one that is not."""
    return None if episode.video is None else VideoRecorder(root / episode.video)
