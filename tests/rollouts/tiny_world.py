"""A real gymnasium environment small enough to read at a glance, which misbehaves on request.

Each episode adds up the absolute first action component; it succeeds when the sum reaches a target drawn from
the seed. Run as a script it is an evaluation to be interrupted: `tiny_world.py FOLDER NUM_TRIALS STEP_S`.
"""

import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from vega_policy.rollouts.baselines import MakeRandom
from vega_policy.rollouts.episode import Task
from vega_policy.rollouts.evaluate import evaluate, plan
from vega_policy.rollouts.folder import ResultsFolder

STEP_LIMIT = 24
TASKS = [Task("tiny", 0, "add up"), Task("tiny", 1, "add more"), Task("small", 0, "add less")]


class TinyEnv(gymnasium.Env):
    record_frames = False

    def __init__(self, task: Task, world: "TinyWorld") -> None:
        self._task, self._world = task, world
        self.observation_space = gymnasium.spaces.Dict({"sum": gymnasium.spaces.Box(0, np.inf, (1,))})
        self.action_space = gymnasium.spaces.Box(-1, 1, (2,))

    def provenance(self) -> dict[str, Any]:
        return {"assets": self._world.assets, "task_id": self._task.task_id}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._trial = options["trial"]
        self._steps, self._sum = 0, 0.0
        self._target = self.np_random.uniform(0, 22)
        self._misbehave()
        return {"sum": np.array([self._sum])}, {}

    def step(self, chunk):
        frames = []
        for action in np.atleast_2d(chunk):
            time.sleep(self._world.step_s)
            self._steps += 1
            self._sum += abs(float(action[0]))
            frames.append(np.full((32, 48, 3), 10 * self._steps, np.uint8))
            if self._sum >= self._target or self._steps == STEP_LIMIT:
                break
        success = self._sum >= self._target
        info = {"is_success": success, "steps": self._steps, "init_state_id": self._trial}
        if self.record_frames:
            info["frames"] = frames
        truncated = not success and self._steps == STEP_LIMIT
        return {"sum": np.array([self._sum])}, float(success), success, truncated, info

    def _misbehave(self) -> None:
        match self._world.fault_of(self._task, self._trial):
            case "raise":
                raise RuntimeError(f"the cabinet of trial {self._trial} fell over")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(3600)


@dataclass(frozen=True)
class TinyWorld:
    """Environment factory. `faults` maps (task_id, trial) of suite tiny to raise, kill or hang.

    With `once` a fault strikes only the first attempt, of which a file in `marks` tells.
    """

    faults: Mapping[tuple[int, int], str] = field(default_factory=dict)
    once: bool = False
    marks: Path | None = None
    step_s: float = 0.0
    assets: str = "tiny"

    def __call__(self, task: Task, images: bool) -> TinyEnv:
        if self.marks is not None:
            with (self.marks / "built").open("a") as stream:
                stream.write(f"{os.getpid()} {task.suite} {task.task_id}\n")
        return TinyEnv(task, self)

    def fault_of(self, task: Task, trial: int) -> str | None:
        fault = self.faults.get((task.task_id, trial)) if task.suite == "tiny" else None
        if fault is None or self.marks is None:
            return fault
        mark = self.marks / f"{task.task_id}_{trial}"
        struck = mark.exists()
        with mark.open("a") as stream:
            stream.write("x")
        return None if self.once and struck else fault


def run(
    path, trials=range(4), *, world=None, resume=False, num_workers=2, seed=0, num_videos=0, limit_s=60.0
):
    """Evaluate the random policy on all tasks of the tiny world."""
    episodes = plan(TASKS, trials, seed, num_videos)
    config = {"config": {"seed": seed, "trials": [trials.start, trials.stop]}}
    folder = ResultsFolder(path, config, resume=resume, num_episodes=len(episodes), film_bytes=0)
    return evaluate(
        episodes,
        world or TinyWorld(),
        MakeRandom(),
        folder,
        num_workers=num_workers,
        time_limit_s=limit_s,
        provenance=config,
    )


if __name__ == "__main__":
    # A shell that started the tests in the background has made its children ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run(Path(sys.argv[1]), range(int(sys.argv[2])), world=TinyWorld(step_s=float(sys.argv[3])))
    except KeyboardInterrupt:
        sys.exit(130)
