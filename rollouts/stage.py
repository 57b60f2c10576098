"""Inside a worker process: builds what an episode needs, plays it, and answers with a row whatever happens.

The environment and the policy are kept from one episode to the next of the same task, since building them
takes seconds. After an error the process is replaced, for nobody knows in what state it left either.
"""

import contextlib
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

from vega_policy.rollouts.episode import Episode, Policy, Row, Task, error_row, run_episode
from vega_policy.rollouts.recorders import recorder_for


class EnvFactory(Protocol):
    """Picklable; builds the environment of a task, whose unwrapped form has `provenance()`."""

    def __call__(self, task: Task, images: bool) -> gymnasium.Env[Any, Any]:
        """Build the environment; without `images` nobody will look at one."""
        ...


class PolicyFactory(Protocol):
    """Picklable; lives as long as its worker, so it may keep a loaded model between environments."""

    @property
    def needs_images(self) -> bool:
        """Whether the policy looks at images; if not, they are made for films only."""
        ...

    def __call__(self, env: gymnasium.Env[Any, Any]) -> Policy:
        """Build the policy that acts in `env`."""
        ...


@dataclass(frozen=True)
class Job:
    """What a worker needs besides its episodes; `root` is the results folder, for films."""

    make_env: EnvFactory
    make_policy: PolicyFactory
    root: Path


@dataclass(frozen=True)
class Ready:
    """A worker's first message: its process is up."""


@dataclass(frozen=True)
class Built:
    """A worker's message that the environment stands, with what the environment says of its origin."""

    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Alive:
    """A worker's message that it has come to the next decision."""


Message = Ready | Built | Alive | Row


class _Audible:
    """A policy that tells the parent of each decision, so that a long episode is not taken for a hung one."""

    def __init__(self, policy: Policy, connection: "Connection[Any, Any]") -> None:
        self._policy = policy
        self._connection = connection

    def reset(self, seed: int) -> None:
        self._policy.reset(seed)

    def act(self, observation: Mapping[str, Any]) -> NDArray[np.floating]:
        self._connection.send(Alive())
        return self._policy.act(observation)


class _Stage:
    """The environment and policy a worker keeps between episodes of one task."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._scene: tuple[Task, bool] | None = None
        self._env: gymnasium.Env[Any, Any] | None = None

    def build(self, episode: Episode) -> tuple[gymnasium.Env[Any, Any], Policy]:
        scene = episode.task, self._job.make_policy.needs_images or episode.video is not None
        if self._env is None or self._scene != scene:
            self.clear()
            self._env, self._scene = self._job.make_env(*scene), scene
            self._policy = self._job.make_policy(self._env)
        return self._env, self._policy

    def clear(self) -> None:
        """Drop the environment, which may be broken and then fails to close as well."""
        if self._env is not None:
            with contextlib.suppress(Exception):
                self._env.close()
        self._env = None


def serve(connection: "Connection[Any, Any]", job: Job) -> None:
    """Body of a worker process; ends on None, or with its parent."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    stage = _Stage(job)
    with contextlib.suppress(EOFError, OSError):
        connection.send(Ready())
        while (episode := connection.recv()) is not None:
            connection.send(_attempt(stage, episode, connection, job.root))
    stage.clear()


def _follow_parent() -> None:
    """End at once when the parent does, even within an episode that nobody waits for any more."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _attempt(stage: _Stage, episode: Episode, connection: "Connection[Any, Any]", root: Path) -> Row:
    started_s = time.monotonic()
    try:
        env, policy = stage.build(episode)
        connection.send(Built(env.unwrapped.provenance()))  # type: ignore[attr-defined]
        with recorder_for(episode, root) or contextlib.nullcontext() as film:
            return run_episode(env, _Audible(policy, connection), episode, film)
    except (Exception, SystemExit):  # a policy's YAML with a mistake ends in the second
        return error_row(episode, traceback.format_exc(), wall_s=time.monotonic() - started_s)
