"""Measures how LIBERO's objects come to rest: `python -m vega_policy.envs.libero.standins.settling standin`.

LIBERO's evaluation init states hold most objects a few centimetres up in the air, with their final x, y and
orientation; during the ten settle steps they fall. So whether an object holds its init pose is asked three
ways: literally, in place (over the same spot and turned alike, whatever the height), and at rest (not moving
any more once the episode begins).
"""

import argparse
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from vega_policy.envs.libero.env import LiberoEnv

MAIN_SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
STAND_STILL = (0, 0, 0, 0, 0, 0, -1)
NEAR_M, NEAR_RAD = 0.01, math.radians(10)
REST_STEPS = 10

Pose = Float64[NDArray[np.float64], " pose"]
"""Position (m) and orientation (wxyz), 7 numbers, in the world frame."""


@dataclass(frozen=True)
class Settled:
    """What became of one free object in one trial.

    Attributes:
        task: suite and task id.
        trial: position of the init state.
        name: the object.
        placed: its pose in the init state.
        settled: its pose after the settle steps.
        rested: its pose after `REST_STEPS` more.
        solved: whether the task counted as solved at any of these three moments.
    """

    task: tuple[str, int]
    trial: int
    name: str
    placed: Pose
    settled: Pose
    rested: Pose
    solved: bool

    @property
    def holds(self) -> bool:
        """Within 1 cm and 10 degrees of its init pose after the settle steps."""
        return near(self.placed, self.settled)

    @property
    def in_place(self) -> bool:
        """The same, but for its height."""
        return near(_without_height(self.placed), _without_height(self.settled))

    @property
    def at_rest(self) -> bool:
        """Within 1 cm and 10 degrees of where the settle steps left it, `REST_STEPS` steps later."""
        return near(self.settled, self.rested)


def settle(suite: str, task_id: int, assets: str, trials: Sequence[int], seed: int = 0) -> Iterator[Settled]:
    """Lets the objects of a task settle from each of its init states.

    The scene is built once; with one seed, fixtures stand in the same places in all trials anyway.
    """
    env = LiberoEnv(suite, task_id, assets=assets, images=False)
    raw = env.raw
    raw.restart(seed, env.init_states[0])
    for trial in trials:
        _restore(raw, env.init_states[trial])
        moments, solved = [_poses(raw)], bool(raw._check_success())
        for steps in (env.protocol.settle_steps, REST_STEPS):
            for _ in range(steps):
                raw.step(STAND_STILL)
            moments.append(_poses(raw))
            solved = solved or bool(raw._check_success())
        for name in moments[0]:
            placed, settled, rested = (moment[name] for moment in moments)
            yield Settled((suite, task_id), trial, name, placed, settled, rested, solved)
    env.close()


def near(first: Pose, second: Pose) -> bool:
    """Whether two poses are within 1 cm and 10 degrees of each other."""
    cosine = min(abs(float(first[3:] @ second[3:])), 1.0)
    return float(np.linalg.norm(first[:3] - second[:3])) < NEAR_M and 2 * math.acos(cosine) < NEAR_RAD


def table(results: dict[str, list[Settled]]) -> str:
    """Returns a Markdown table: one row per suite and assets, `results` being keyed by assets.

    The last column compares each resting pose with the one under the assets named last.
    """
    reference = {(row.task, row.trial, row.name): row.settled for row in list(results.values())[-1]}
    *_, last = results
    lines = [
        "| suite | assets | objects | literal | in place | at rest "
        f"| rests as with {last} | tasks solved at the start |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for suite in sorted({row.task[0] for row in results[last]}, key=MAIN_SUITES.index):
        for assets, rows in results.items():
            some = [row for row in rows if row.task[0] == suite]
            alike = [near(row.settled, reference[row.task, row.trial, row.name]) for row in some]
            shares = (
                _share(row.holds for row in some), _share(row.in_place for row in some),
                _share(row.at_rest for row in some), _share(alike),
            )  # fmt: skip
            solved = len({(row.task, row.trial) for row in some if row.solved})
            lines.append(f"| {suite} | {assets} | {len(some)} | {' | '.join(shares)} | {solved} |")
    return "\n".join(lines)


def main() -> None:
    """Prints the table of the main suites for the assets named on the command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("assets", nargs="+", help="'standin', 'official' or a folder")
    parser.add_argument("--suites", nargs="+", default=MAIN_SUITES)
    parser.add_argument("--trials", type=int, default=50)
    given = parser.parse_args()
    results = {
        assets: [
            row
            for suite in given.suites
            for task_id in range(10)
            for row in settle(suite, task_id, assets, range(given.trials))
        ]
        for assets in given.assets
    }
    print(table(results))


def _restore(raw: Any, init_state: NDArray[np.float64]) -> None:
    raw.sim.set_state_from_flattened(init_state)
    raw.sim.data.qacc_warmstart[:] = 0
    raw.sim.forward()
    for robot in raw.robots:
        robot.controller.update(force=True)
        robot.controller.reset_goal()
    raw.timestep, raw.done = 0, False


def _poses(raw: Any) -> dict[str, Pose]:
    joints = {name: thing.joints[0] for name, thing in raw.objects_dict.items()}
    return {name: np.array(raw.sim.data.get_joint_qpos(joint)) for name, joint in joints.items()}


def _without_height(pose: Pose) -> Pose:
    return np.concatenate([pose[:2], [0.0], pose[3:]])


def _share(flags: Iterable[bool]) -> str:
    return f"{100 * np.mean(list(flags)):.1f}%"


if __name__ == "__main__":
    main()
