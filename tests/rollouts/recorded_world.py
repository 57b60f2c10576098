"""A point that an expert steers home, recorded; small enough that every number can be checked by hand."""

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from vega_policy.rollouts.collect import Wanted, collect
from vega_policy.rollouts.demonstrator import Disturbance, MakeDemonstrator
from vega_policy.rollouts.episode import Task
from vega_policy.rollouts.folder import ResultsFolder
from vega_policy.rollouts.recording import RecordingEnv, recording_path
from vega_policy.rollouts.stage import Job

TASK = Task("line", 0, "go home")
REACH, NEAR, STEP_LIMIT, STEPS_AFTER_SUCCESS = 0.1, 0.05, 30, 2
SIZE_PX = 32


class LineEnv(gymnasium.Env):
    """Moves by REACH times the action; episodes whose seed is a multiple of 3 cannot succeed."""

    record_frames = False

    def __init__(self) -> None:
        self.action_space = gymnasium.spaces.Box(-1, 1, (3,))

    def provenance(self) -> dict[str, Any]:
        return {"assets": "line"}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        assert options == {"placement": "random"}
        self.position = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        self._blocked = seed % 3 == 0
        self._steps, self._end, self._solved = 0, STEP_LIMIT, False
        return self._observation(), {}

    def step(self, action):
        near = False
        for row in np.atleast_2d(action):
            self.position = self.position + np.float32(REACH) * row[:2]
            self._steps += 1
            near = bool(np.abs(self.position).max() < NEAR) and not self._blocked
            if near and not self._solved:
                self._solved, self._end = True, self._steps + STEPS_AFTER_SUCCESS
        over = self._steps >= self._end
        info = {"is_success": self._solved, "steps": self._steps}
        return self._observation(), float(near), over and self._solved, over and not self._solved, info

    def _observation(self):
        picture = np.full((SIZE_PX, SIZE_PX, 3), 8 * self._steps, np.uint8)
        return {"position": self.position, "picture": picture}


def describe(observation: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {"position": observation["position"], "film": observation["picture"]}


class LineExpert:
    """Goes straight home; asked again, it answers the same."""

    def __init__(self, env) -> None:
        self._env = env.unwrapped

    def reset(self, seed: int) -> None: ...

    def act(self, observation):
        return right_action(self._env.position)[None]

    def sees_trouble(self) -> bool:
        return False


def right_action(position: np.ndarray) -> np.ndarray:
    return np.append(np.clip(-position / REACH, -1, 1), 1).astype(np.float32)


class Straying:
    """A learner that goes its own way, three steps at a time."""

    def reset(self, seed: int) -> None: ...

    def act(self, observation):
        return np.full((3, 3), 0.5, np.float32)


@dataclass(frozen=True)
class MakeLineExpert:
    needs_images: bool = False

    def __call__(self, env) -> LineExpert:
        return LineExpert(env)


@dataclass(frozen=True)
class MakeStraying:
    needs_images: bool = True

    def __call__(self, env) -> Straying:
        return Straying()


@dataclass(frozen=True)
class RecordedWorld:
    """Environment factory; where `mark` is given, the worker dies once, in the middle of an episode."""

    folder: Path
    start_steps: int = 0
    keep_failures: bool = False
    mark: Path | None = None

    def __call__(self, task: Task, images: bool) -> gymnasium.Env:
        env = LineEnv() if self.mark is None else Mortal(LineEnv(), self.mark)
        return RecordingEnv(
            env,
            self.folder,
            describe,
            frames_per_s=20,
            reset_options={"placement": "random"},
            start_steps=self.start_steps,
            keep_failures=self.keep_failures,
        )


class Mortal(gymnasium.Wrapper):
    def __init__(self, env, mark: Path) -> None:
        super().__init__(env)
        self._mark = mark

    def step(self, action):
        if not self._mark.exists():
            self._mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.env.step(action)


def record(
    path,
    episodes=4,
    *,
    tasks=(TASK,),
    max_trials=40,
    disturbance=None,
    learner=None,
    num_workers=2,
    resume=False,
    **world,
):
    """Record demonstrations; returns the rows of those to use, of the first task."""
    make_env = RecordedWorld(path / "line", **world)
    wanted = Wanted(tasks, episodes, max_trials, make_env.keep_failures, base_seed=0)
    folder = ResultsFolder(path, {}, resume=resume, num_episodes=episodes, film_bytes=0)
    make_policy = MakeDemonstrator(MakeLineExpert(), learner, disturbance or Disturbance())
    job = Job(make_env, make_policy, path)
    return collect(wanted, job, folder, num_workers=num_workers, time_limit_s=60.0)[tasks[0]]


def paths(folder: Path, rows) -> list[Path]:
    return [recording_path(folder / "line", row.trial) for row in rows]
