"""The expert waits for what can be seen to happen, and not for a number of steps.

Surprising: robosuite's gripper takes eight steps to change its mind, so a can is still held for five steps
after the fingers were told to open; nothing in a picture or the state says so.
"""

import numpy as np
import pytest

from vega_policy.envs.experts.expert import Expert
from vega_policy.envs.experts.motion import CLOSE
from vega_policy.envs.experts.world import World
from vega_policy.envs.libero.env import LiberoEnv

pytestmark = pytest.mark.sim

STILL_M, MOST_STEPS = 0.004, 4


@pytest.fixture(scope="module")
def trip() -> list[tuple[float, float, float]]:
    """Height of the hand, opening (m) and grip asked for in each step: a can is carried to the basket."""
    env = LiberoEnv("libero_object", 0, assets="standin", images=False, steps_after_success=30)
    env.reset(seed=0, options={"trial": 0})
    world, expert = World(env.raw), Expert(env)
    expert.reset(seed=0)
    steps = []
    for _ in range(110):
        action = expert.act()
        steps.append((float(world.hand.position[2]), world.opening_m, float(action[0, 6])))
        env.step(action)
    env.close()
    return steps


def closed_from(trip: list[tuple[float, float, float]]) -> int:
    return next(step for step, (_, _, grip) in enumerate(trip) if grip == CLOSE)


def test_a_can_is_lifted_as_soon_as_the_fingers_have_it(trip: list[tuple[float, float, float]]) -> None:
    first = closed_from(trip)
    heights, openings, _ = np.array(trip).T
    at_rest = next(step for step in range(first, len(trip)) if openings[first] - openings[step] > 0.01)
    at_rest += int(np.argmax(-np.diff(openings[at_rest:]) < 0.0005))
    rising = next(step for step in range(at_rest, len(trip)) if heights[step] > heights[at_rest] + 0.01)
    assert openings[at_rest] > 0.05, "a can, not nothing"
    assert rising - at_rest <= MOST_STEPS


def test_a_can_that_stands_is_let_go_of(trip: list[tuple[float, float, float]]) -> None:
    first = closed_from(trip)
    let_go = next(step for step in range(first, len(trip)) if trip[step][2] != CLOSE)
    standing = [step for step in range(first, let_go) if abs(trip[step][0] - trip[let_go][0]) < STILL_M]
    assert let_go > first + 20, "it has been carried"
    assert len(standing) <= MOST_STEPS
