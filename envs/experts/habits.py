"""How alike the expert's first grips are in placement after placement of a task.

A policy that learns by regression reaches for the middle of what it is shown: where the expert grips one can
across and the next one along, it turns the hand by half a quarter and misses both. Measured here is the
direction in which the fingers close when they first do, modulo half a turn, for both fingers are alike.
"""

import argparse
from collections.abc import Iterator, Sequence

import numpy as np
from tqdm import tqdm

from vega_policy.envs.experts.expert import Expert
from vega_policy.envs.libero.env import LiberoEnv

ALIKE_DEG = 15.0
GRIPPER = 6


def first_grips(suite: str, task_id: int, assets: str, seeds: Sequence[int]) -> Iterator[float]:
    """Play random placements until the fingers first close.

    Args:
        suite: A name from `tasks.SUITES`.
        task_id: The task's position in the suite.
        assets: "auto", "official", "standin" or a folder.
        seeds: One for each placement.

    Yields:
        The closing direction in the world frame, in degrees in [0, 180); 90 is that of the hand after a
        reset. Nothing where the fingers never close.
    """
    env = LiberoEnv(suite, task_id, assets=assets, images=False)
    expert = Expert(env)
    for seed in seeds:
        observation, _ = env.reset(seed=seed, options={"placement": "random"})
        expert.reset(seed)
        for _ in range(env.max_steps):
            action = expert.act()
            if action[0, GRIPPER] > 0:
                fingers = observation["robot_state"]["eef"]["mat"][:, 0]
                yield float(np.degrees(np.arctan2(fingers[1], fingers[0])) % 180.0)
                break
            observation, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                break
    env.close()


def share_alike(directions_deg: Sequence[float]) -> float:
    """The largest share of directions that lie within 15 degrees of one of them; 1 if there are none."""
    turns = np.subtract.outer(directions_deg, directions_deg)
    apart = np.abs((turns + 90.0) % 180.0 - 90.0)
    return float((apart <= ALIKE_DEG).mean(axis=1).max(initial=0.0)) if len(apart) else 1.0


def main() -> None:
    """Prints for each task of a suite how the first grips are turned, and the share that are alike."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("suite")
    parser.add_argument("--assets", default="standin", help="'standin', 'official' or a folder")
    parser.add_argument("--placements", type=int, default=6)
    parser.add_argument("--tasks", type=int, nargs="+", default=range(10))
    given = parser.parse_args()
    print("| task | closing directions (degrees) | alike |\n|---|---|---:|")
    for task_id in tqdm(given.tasks, unit="task"):
        found = list(first_grips(given.suite, task_id, given.assets, range(given.placements)))
        turned = ", ".join(f"{direction:.0f}" for direction in sorted(found))
        tqdm.write(f"| {given.suite} {task_id} | {turned} | {share_alike(found):.0%} |")


if __name__ == "__main__":
    main()
