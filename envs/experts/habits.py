"""How alike the expert's first grips are in placement after placement of a task, and how it comes to them.

A policy that learns by regression reaches for the middle of what it is shown: where the expert grips one can
across and the next one along, it turns the hand by half a quarter and misses both; where the expert goes down
half a centimetre beside a grip and up a centimetre beside it, it stays in between. Measured is the direction
in which the fingers close when they first do, modulo half a turn, for both fingers are alike, and how often
the hand was sent up or down, by how far aside of that place it was.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from vega_policy.envs.experts.expert import Expert
from vega_policy.envs.experts.geometry import Matrix, Vector
from vega_policy.envs.libero.env import LiberoEnv

ALIKE_DEG = 15.0
HEIGHT, GRIPPER = 2, 6
ASIDE_M = (0.0, 0.006, 0.012, 0.02, 0.045)
LOWEST_M, HIGHEST_M = -0.01, 0.04
CLEARLY = 0.2  # of full stick


@dataclass(frozen=True)
class Grip:
    """How the hand came to where its fingers first closed.

    Attributes:
        direction_deg: In which the fingers close, world frame, in [0, 180); 90 after a reset.
        away_m: Of each step before, the hand's position less that in which the fingers close, world frame.
        lift: Of each step before, the third input of the action, in [-1, 1]; positive is up.
    """

    direction_deg: float
    away_m: Float[np.ndarray, "steps 3"]
    lift: Float[np.ndarray, " steps"]


def first_grips(
    suite: str, task_id: int, assets: str, seeds: Sequence[int], action_noise: float = 0.0
) -> Iterator[Grip]:
    """Play random placements until the fingers first close.

    Args:
        suite: A name from `tasks.SUITES`.
        task_id: The task's position in the suite.
        assets: "auto", "official", "standin" or a folder.
        seeds: One for each placement.
        action_noise: Standard deviation of what is added to the arm's inputs, as in `vega-collect`.

    Yields:
        A grip for each placement but those where the fingers never close.
    """
    env = LiberoEnv(suite, task_id, assets=assets, images=False)
    expert = Expert(env)
    for seed in seeds:
        grip = _first_grip(env, expert, seed, action_noise)
        if grip is not None:
            yield grip
    env.close()


def _first_grip(env: LiberoEnv, expert: Expert, seed: int, action_noise: float) -> Grip | None:
    observation, _ = env.reset(seed=seed, options={"placement": "random"})
    expert.reset(seed)
    noise = np.random.default_rng(seed)
    positions: list[Vector] = []
    lifts: list[float] = []
    over = False
    while not over:
        hand, action = observation["robot_state"]["eef"], expert.act()
        if action[0, GRIPPER] > 0:
            return _grip(hand["pos"], hand["mat"], positions, lifts)
        positions.append(hand["pos"])
        lifts.append(action[0, HEIGHT])
        disturbed = action + action_noise * np.append(noise.standard_normal(GRIPPER), 0.0)
        observation, _, terminated, truncated, _ = env.step(np.clip(disturbed, -1.0, 1.0))
        over = terminated or truncated
    return None


def _grip(position: Vector, rotation: Matrix, positions: Sequence[Vector], lifts: Sequence[float]) -> Grip:
    fingers = rotation[:, 0]
    direction_deg = float(np.degrees(np.arctan2(fingers[1], fingers[0])) % 180.0)
    return Grip(direction_deg, np.reshape(positions, (-1, 3)) - position, np.asarray(lifts, float))


def share_alike(directions_deg: Sequence[float]) -> float:
    """The largest share of directions that lie within 15 degrees of one of them; 1 if there are none."""
    turns = np.subtract.outer(directions_deg, directions_deg)
    apart = np.abs((turns + 90.0) % 180.0 - 90.0)
    return float((apart <= ALIKE_DEG).mean(axis=1).max(initial=0.0)) if len(apart) else 1.0


def lifts_by_distance(grips: Sequence[Grip]) -> list[Float[np.ndarray, " steps"]]:
    """The third inputs of all steps that end up to 4 cm over a grip (or 1 cm under it).

    Returns:
        One array for each interval of `ASIDE_M`, the horizontal distance from the place of the grip.
    """
    away_m = np.concatenate([grip.away_m for grip in grips])
    lift = np.concatenate([grip.lift for grip in grips])
    low = (away_m[:, 2] > LOWEST_M) & (away_m[:, 2] < HIGHEST_M)
    ring = np.digitize(np.hypot(away_m[:, 0], away_m[:, 1]), ASIDE_M)
    return [lift[low & (ring == index)] for index in range(1, len(ASIDE_M))]


def main() -> None:
    """Prints how the first grips of tasks are turned, and whether the hand goes up or down beside them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("suites", nargs="+")
    parser.add_argument("--assets", default="standin", help="'standin', 'official' or a folder")
    parser.add_argument("--placements", type=int, default=6)
    parser.add_argument("--tasks", type=int, nargs="+", default=range(10))
    parser.add_argument("--action_noise", type=float, default=0.0)
    given = parser.parse_args()
    grips: list[Grip] = []
    print("| task | closing directions (degrees) | alike |\n|---|---|---:|")
    for suite, task_id in tqdm(list(product(given.suites, given.tasks)), unit="task"):
        seeds = range(given.placements)
        found = list(first_grips(suite, task_id, given.assets, seeds, given.action_noise))
        directions_deg = sorted(grip.direction_deg for grip in found)
        turned = ", ".join(f"{direction:.0f}" for direction in directions_deg)
        tqdm.write(f"| {suite} {task_id} | {turned} | {share_alike(directions_deg):.0%} |")
        grips += found
    print("\n" + _lift_table(grips))


def _lift_table(grips: Sequence[Grip]) -> str:
    lines = ["| aside | steps | up | down | median |", "|---|---:|---:|---:|---:|"]
    if not grips:
        return "\n".join(lines)
    for (low_m, high_m), lift in zip(pairwise(ASIDE_M), lifts_by_distance(grips), strict=True):
        shares = ("-", "-", "-")
        if len(lift):
            up, down = (lift > CLEARLY).mean(), (lift < -CLEARLY).mean()
            shares = (f"{up:.0%}", f"{down:.0%}", f"{np.median(lift):.2f}")
        lines.append(f"| {1000 * low_m:.0f} to {1000 * high_m:.0f} mm | {len(lift)} | {' | '.join(shares)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
