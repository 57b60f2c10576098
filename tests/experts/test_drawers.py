"""Drawers are taken in the middle and led to their stop, with a margin for who learns from it."""

from collections.abc import Iterator

import numpy as np
import pytest

from vega_policy.envs.experts.contacts import HoldPlanner
from vega_policy.envs.experts.expert import Expert
from vega_policy.envs.experts.goal import Subgoal
from vega_policy.envs.experts.joints import PRESS_M, MovingPart, is_reached, moving_part, part_geoms
from vega_policy.envs.experts.motion import CLOSE, STAY_TURN
from vega_policy.envs.experts.rehearsal import Rehearsal
from vega_policy.envs.experts.skills.funnel import RADIUS_M
from vega_policy.envs.experts.world import World
from vega_policy.envs.libero.env import LiberoEnv

pytestmark = pytest.mark.sim

OPEN_TOP = Subgoal("open", "wooden_cabinet_1_top_region")
STOP_Q = -0.16


@pytest.fixture
def env() -> Iterator[LiberoEnv]:
    """Open the top drawer and put the bowl inside."""
    env = LiberoEnv("libero_goal", 3, assets="standin", images=False)
    env.reset(seed=0, options={"trial": 0})
    yield env
    env.close()


def _sliding(q: float) -> MovingPart:
    return MovingPart("cabinet", "drawer", True, np.eye(3)[1], np.zeros(3), q, -0.157, (STOP_Q, 0.01))


@pytest.mark.parametrize(("q", "ahead_q"), [(0.0, -0.05), (-0.08, -0.13), (-0.15, STOP_Q - PRESS_M)])
def test_the_hand_is_sent_ahead_of_a_drawer_and_hardly_past_its_stop(q: float, ahead_q: float) -> None:
    assert _sliding(q).ahead_q(-1.0) == pytest.approx(ahead_q)


@pytest.mark.parametrize(("q", "reached"), [(0.0, False), (-0.147, False), (STOP_Q, True)])
def test_a_drawer_is_open_only_at_its_stop(env: LiberoEnv, q: float, reached: bool) -> None:
    world = World(env.raw)
    world.data.joint(moving_part(world, OPEN_TOP).joint).qpos[0] = q
    assert is_reached(world, OPEN_TOP) is reached


def test_a_drawer_that_libero_calls_open_is_still_pulled(env: LiberoEnv) -> None:
    world = World(env.raw)
    world.data.joint(moving_part(world, OPEN_TOP).joint).qpos[0] = -0.147
    assert moving_part(world, OPEN_TOP).sign == -1.0


def test_it_pulls_for_a_while_at_the_stop_before_it_lets_go(env: LiberoEnv) -> None:
    world, expert = World(env.raw), Expert(env)
    expert.reset(seed=0)
    part = moving_part(world, OPEN_TOP)
    pulling = 0
    for _ in range(150):
        action = expert.act()
        at_stop = abs(world.joint_q(part.joint) - STOP_Q) < 0.003
        if at_stop and action[0, 6] != CLOSE:
            break
        pulling += at_stop
        env.step(action)
    assert 3 <= pulling <= 5, "fewer leave no margin, more look all the same"
    beside_m = abs(world.hand.position - world.data.body(world.model.joint(part.joint).bodyid[0]).xipos)[0]
    assert beside_m < 0.02


def test_what_is_in_a_drawer_does_not_stand_in_the_way_of_shutting_it() -> None:
    """The bowl goes with the drawer; taken to stay where it is, it would leave no way to push."""
    env = LiberoEnv("libero_10", 3, assets="standin", images=False)
    env.reset(seed=0, options={"trial": 0})
    world, shut = World(env.raw), Subgoal("close", "white_cabinet_1_bottom_region")
    drawer = part_geoms(world, moving_part(world, shut).joint)
    assert world.objects_on(drawer) == [], "the bowl is on the table"
    address = world.free_joint_address("akita_black_bowl_1")
    world.data.qpos[address : address + 3] = [0.035, 0.144, 0.935]  # half a centimetre above its floor
    for _ in range(20):
        env.step(np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0]]))
    assert world.objects_on(drawer) == ["akita_black_bowl_1"]
    planner = HoldPlanner(world, Rehearsal(world), shut, np.random.default_rng(0))
    hold = planner.plan(moving_part(world, shut), [])
    assert not hold.grips
    assert hold.cost < 1.0, "nothing is in the way"
    env.close()


def test_pushed_aside_before_a_handle_it_comes_back_level(env: LiberoEnv) -> None:
    """It used to go up, over the cabinet and down again, from a place where 1 cm less meant straight on."""
    expert, world = Expert(env), World(env.raw)
    expert.reset(seed=0)
    for _ in range(100):
        action, hold = expert.act(), expert._skill._hold
        if hold is not None and np.linalg.norm(world.hand.position - hold.hand.position) < 0.05:
            break
        env.step(action)
    assert hold is not None, "it is on its way to the handle"
    env.step(np.tile([1.0, 0.0, 0.0, STAY_TURN, 0.0, 0.0, -1.0], (4, 1)))
    assert (world.hand.position - hold.hand.position)[0] > RADIUS_M
    heights = []
    for _ in range(20):
        action = expert.act()
        if action[0, 6] == CLOSE:
            break
        heights.append(action[0, 2])
        env.step(action)
    assert action[0, 6] == CLOSE, "it is round the handle"
    assert np.abs(heights).max() < 0.5
