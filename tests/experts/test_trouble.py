"""The expert sees when a learner needs it: shut on nothing, or standing about."""

from collections.abc import Iterator

import numpy as np
import pytest

from vega_policy.envs.experts.expert import Expert
from vega_policy.envs.experts.motion import CLOSE, OPEN, STAY_TURN
from vega_policy.envs.experts.world import World
from vega_policy.envs.libero.env import LiberoEnv

pytestmark = pytest.mark.sim

STEPS = 10


def decide(env: LiberoEnv, velocity: tuple[float, float, float], grip: float) -> None:
    env.step(np.tile([*velocity, STAY_TURN, 0.0, 0.0, grip], (STEPS, 1)))


def watched(env: LiberoEnv) -> Expert:
    env.reset(seed=0, options={"trial": 0})
    expert = Expert(env)
    expert.reset(seed=0)
    assert not expert.sees_trouble()
    return expert


@pytest.fixture(scope="module")
def can() -> Iterator[LiberoEnv]:
    env = LiberoEnv("libero_object", 0, assets="standin", images=False)
    yield env
    env.close()


def test_a_hand_that_has_shut_on_nothing_is_in_trouble(can: LiberoEnv) -> None:
    expert = watched(can)
    decide(can, (0.0, 0.5, 0.0), CLOSE)
    assert not expert.sees_trouble(), "still closing"
    decide(can, (0.0, 0.5, 0.0), CLOSE)
    assert expert.sees_trouble()
    decide(can, (0.0, -0.5, 0.0), OPEN)
    assert not expert.sees_trouble(), "it has seen that itself"


def test_a_hand_that_holds_something_is_not(can: LiberoEnv) -> None:
    expert = watched(can)
    world = World(can.raw)
    while world.held_object() is None or not world.fingers_rest:
        can.step(expert.act())
    assert not expert.sees_trouble()


def test_a_hand_that_stays_for_two_seconds_is(can: LiberoEnv) -> None:
    expert = watched(can)
    seen = []
    for _ in range(5):
        decide(can, (0.0, 0.0, 0.0), OPEN)
        seen.append(expert.sees_trouble())
    assert seen == [False, False, False, False, True]


def test_what_is_pushed_is_pushed_with_shut_fingers() -> None:
    env = LiberoEnv("libero_goal", 5, assets="standin", images=False)
    expert = watched(env)
    for _ in range(2):
        decide(env, (0.0, 0.5, 0.0), CLOSE)
    assert not expert.sees_trouble()
    env.close()
