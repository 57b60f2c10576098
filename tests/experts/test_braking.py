"""The hand comes to rest where the expert expects it to, and does not run past where it is sent.

Surprising: sideways only. Outward the arm drifts on by one or two centimetres more; nothing here models that.
"""

from collections.abc import Iterator

import numpy as np
import pytest

from vega_policy.envs.experts.geometry import Vector
from vega_policy.envs.experts.motion import OPEN, STAY_TURN, toward
from vega_policy.envs.experts.skills.base import Traveller
from vega_policy.envs.experts.world import World
from vega_policy.envs.libero.env import LiberoEnv

pytestmark = pytest.mark.sim

LEFT = np.array([0.0, 1.0, 0.0])


@pytest.fixture(scope="module")
def env() -> Iterator[LiberoEnv]:
    env = LiberoEnv("libero_object", 5, assets="standin", images=False)
    yield env
    env.close()


@pytest.fixture
def world(env: LiberoEnv) -> World:
    env.reset(seed=0, options={"trial": 0})
    return World(env.raw)


@pytest.mark.parametrize("direction", [LEFT, -LEFT])
def test_the_hand_comes_to_rest_where_it_is_expected(env: LiberoEnv, world: World, direction: Vector) -> None:
    env.step(np.tile([*direction, STAY_TURN, 0.0, 0.0, OPEN], (12, 1)))
    moving, expected = world.hand.position, world.hand_at_rest.position
    env.step(np.tile([0.0, 0.0, 0.0, STAY_TURN, 0.0, 0.0, OPEN], (12, 1)))
    assert np.linalg.norm(expected - moving) > 0.008, "it was on its way"
    assert np.linalg.norm(world.hand.position - expected) < 0.003


def furthest_m(env: LiberoEnv, world: World, *, brakes: bool) -> float:
    """How far the hand gets beyond a target 15 cm to the left of it."""
    target = world.hand.moved(0.15 * LEFT)
    traveller = Traveller(world)
    beyond_m = []
    for _ in range(25):
        env.step(traveller.toward(target, OPEN) if brakes else toward(world.hand, target, OPEN))
        beyond_m.append(float((world.hand.position - target.position) @ LEFT))
    assert abs(beyond_m[-1]) < 0.003, "it arrives"
    return max(beyond_m)


def test_it_brakes_before_it_arrives(env: LiberoEnv, world: World) -> None:
    assert furthest_m(env, world, brakes=True) < 0.003


def test_counted_from_where_it_is_the_hand_would_run_past(env: LiberoEnv, world: World) -> None:
    assert furthest_m(env, world, brakes=False) > 0.005
