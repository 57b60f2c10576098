"""One closed-loop episode: the environment shows, the policy acts, until success or the step limit.

Everything the harness runs goes through `run_episode`. An episode is named by (suite, task, trial) and its
seed follows from these alone, so it comes out the same in any order, in any worker, on a retry or a resume.
An exception is not a failure of the policy: it leaves `run_episode` and is recorded as an error elsewhere.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

Outcome = Literal["success", "failure", "error"]
EpisodeKey = tuple[str, int, int]


class Policy(Protocol):
    """Whatever can be examined."""

    def reset(self, seed: int) -> None:
        """Forget the previous episode; all randomness of the next one follows from `seed`."""

    def act(self, observation: Mapping[str, Any]) -> NDArray[np.floating]:
        """Return a chunk of actions, shape (T, action size), to be played before the next decision."""
        ...


class FrameSink(Protocol):
    """Where the camera frames of a filmed episode go."""

    def add(self, frames: Sequence[NDArray[np.uint8]]) -> None:
        """Take upright RGB frames (height, width, 3), one per control step."""


@dataclass(frozen=True)
class Task:
    """A task of a suite; `name` is for readers."""

    suite: str
    task_id: int
    name: str


@dataclass(frozen=True)
class Episode:
    """A planned episode; `video` is the file to film it to, relative to the results folder."""

    task: Task
    trial: int
    seed: int
    video: str | None = None

    @property
    def key(self) -> EpisodeKey:
        """What identifies the episode in the results."""
        return self.task.suite, self.task.task_id, self.trial


@dataclass(frozen=True)
class Row:
    """What became of an episode; one line of `episodes.jsonl`.

    `steps` are control steps, `decisions` calls of the policy. `env_s` and `policy_s` are the parts of
    `wall_s` spent in each. `error` is a traceback, or says how the worker was lost; None unless the outcome
    is error.
    """

    suite: str
    task_id: int
    task: str
    trial: int
    init_state_id: int | None
    seed: int
    outcome: Outcome
    steps: int
    error: str | None
    wall_s: float
    env_s: float
    policy_s: float
    decisions: int
    video: str | None

    @property
    def key(self) -> EpisodeKey:
        """What identifies the episode in the results."""
        return self.suite, self.task_id, self.trial


def episode_seed(base_seed: int, suite: str, task_id: int, trial: int) -> int:
    """Seed of an episode in [0, 2**31), a hash that does not depend on process, platform or order."""
    name = f"{base_seed}/{suite}/{task_id}/{trial}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=4).digest()) >> 1


def run_episode(
    env: gymnasium.Env[Any, Any], policy: Policy, episode: Episode, film: FrameSink | None = None
) -> Row:
    """Play one episode to its end.

    Args:
        env: Its `reset` takes the option `trial`. Its `step` takes a chunk and reports in `info` the
            control steps so far (`steps`), whether the task is done (`is_success`), the `init_state_id` where
            there is one, and `frames` where `record_frames` of the unwrapped environment is set.
        policy: Reset here with the episode's seed.
        episode: Which trial to play, with which seed.
        film: Takes the frames; None spares the environment rendering them.

    Returns:
        The row, with outcome success or failure.
    """
    watch = _Stopwatch()
    env.unwrapped.record_frames = film is not None  # type: ignore[attr-defined]
    with watch.time("env"):
        observation, info = env.reset(seed=episode.seed, options={"trial": episode.trial})
    policy.reset(episode.seed)
    decisions, ended = 0, False
    while not ended:
        with watch.time("policy"):
            chunk = policy.act(observation)
        with watch.time("env"):
            observation, _, terminated, truncated, info = env.step(chunk)
        if film is not None:
            film.add(info["frames"])
        decisions += 1
        ended = terminated or truncated
    return Row(
        suite=episode.task.suite,
        task_id=episode.task.task_id,
        task=episode.task.name,
        trial=episode.trial,
        init_state_id=info.get("init_state_id"),
        seed=episode.seed,
        outcome="success" if info["is_success"] else "failure",
        steps=int(info["steps"]),
        error=None,
        wall_s=watch.elapsed_s,
        env_s=watch.spent_s["env"],
        policy_s=watch.spent_s["policy"],
        decisions=decisions,
        video=episode.video if film is not None else None,
    )


def error_row(episode: Episode, error: str, wall_s: float) -> Row:
    """The row of an episode that could not be played to its end."""
    return Row(
        suite=episode.task.suite,
        task_id=episode.task.task_id,
        task=episode.task.name,
        trial=episode.trial,
        init_state_id=None,
        seed=episode.seed,
        outcome="error",
        steps=0,
        error=error,
        wall_s=wall_s,
        env_s=0.0,
        policy_s=0.0,
        decisions=0,
        video=None,
    )


@dataclass
class _Stopwatch:
    """Sums the time spent in named parts; for reports only, nothing is decided by it."""

    spent_s: dict[str, float] = field(default_factory=lambda: {"env": 0.0, "policy": 0.0})
    _started_s: float = field(default_factory=time.perf_counter)

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self._started_s

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        started_s = time.perf_counter()
        yield
        self.spent_s[part] += time.perf_counter() - started_s
