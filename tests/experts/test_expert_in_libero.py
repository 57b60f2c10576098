"""The expert in LIBERO: it solves tasks, from states it was not started in, and goes on after success."""

from collections.abc import Iterator

import numpy as np
import pytest

from vega_policy.envs.experts import placing
from vega_policy.envs.experts.expert import Expert
from vega_policy.envs.libero.env import LiberoEnv

pytestmark = pytest.mark.sim


@pytest.fixture
def env() -> Iterator[LiberoEnv]:
    env = LiberoEnv("libero_spatial", 0, assets="standin", images=False)
    env.reset(seed=0, options={"trial": 0})
    yield env
    env.close()


def drive(env: LiberoEnv, expert: Expert) -> dict[str, object]:
    while True:
        *_, terminated, truncated, info = env.step(expert.act())
        if terminated or truncated:
            return info


def bowl_height_m(env: LiberoEnv) -> float:
    return float(env.sim.data.get_body_xpos("akita_black_bowl_1_main")[2])


def lift(env: LiberoEnv, expert: Expert) -> None:
    resting_m = bowl_height_m(env)
    while bowl_height_m(env) < resting_m + 0.05:
        *_, terminated, truncated, _ = env.step(expert.act())
        ended = terminated or truncated
        assert not ended, "the bowl is lifted before it is placed"


def test_a_bowl_is_put_on_the_plate(env: LiberoEnv) -> None:
    expert = Expert(env)
    expert.reset(seed=0)
    assert drive(env, expert)["is_success"]


def test_it_starts_from_a_perturbed_arm(env: LiberoEnv) -> None:
    rng = np.random.default_rng(0)
    env.step(np.concatenate([rng.uniform(-1, 1, (15, 6)), np.ones((15, 1))], axis=1))
    expert = Expert(env)
    expert.reset(seed=0)
    assert drive(env, expert)["is_success"]


def test_another_expert_takes_over_with_the_bowl_in_the_hand(env: LiberoEnv) -> None:
    first = Expert(env)
    first.reset(seed=0)
    lift(env, first)
    second = Expert(env)
    second.reset(seed=1)
    assert drive(env, second)["is_success"]


def test_it_picks_up_again_what_it_dropped(env: LiberoEnv) -> None:
    expert = Expert(env)
    expert.reset(seed=0)
    resting_m = bowl_height_m(env)
    lift(env, expert)
    env.step(np.tile([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0], (12, 1)))
    assert bowl_height_m(env) < resting_m + 0.03, "the bowl is dropped"
    assert drive(env, expert)["is_success"]


def test_a_half_open_drawer_is_opened_the_rest_of_the_way() -> None:
    env = LiberoEnv("libero_goal", 0, assets="standin", images=False)
    env.reset(seed=0, options={"trial": 0})
    env.sim.data.set_joint_qpos("wooden_cabinet_1_middle_level", -0.07)
    env.sim.forward()
    expert = Expert(env)
    expert.reset(seed=0)
    assert drive(env, expert)["is_success"]
    env.close()


def test_actions_stay_in_the_action_space(env: LiberoEnv) -> None:
    expert = Expert(env)
    expert.reset(seed=0)
    for _ in range(40):
        action = expert.act()
        assert action.shape == (1, 7)
        assert np.abs(action).max() <= 1
        env.step(action)


def test_after_success_the_bowl_is_let_go() -> None:
    env = LiberoEnv("libero_spatial", 0, assets="standin", images=False, steps_after_success=40)
    env.reset(seed=0, options={"trial": 0})
    expert = Expert(env)
    expert.reset(seed=0)
    info = drive(env, expert)
    assert info["is_success"]
    assert env.raw._check_success(), "the bowl stays on the plate"
    gripper = env.sim.data.get_site_xpos("gripper0_grip_site")
    assert np.linalg.norm(gripper - env.sim.data.get_body_xpos("akita_black_bowl_1_main")) > 0.08
    env.close()


def test_for_an_object_that_cannot_be_grasped_it_waits(
    env: LiberoEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    grasps = placing.upright_grasps
    monkeypatch.setattr(placing, "upright_grasps", lambda *found: asked.append(0.0) or [])
    expert = Expert(env)
    expert.reset(seed=0)
    for _ in range(5):
        action = expert.act()
        assert np.abs(action[0, :3]).max() < 1e-6
        env.step(action)
    tries = len(asked)
    env.step(expert.act())
    assert len(asked) == tries, "it does not plan again for an object that lies where it lay"
    monkeypatch.setattr(placing, "upright_grasps", grasps)
    address = env.sim.model.get_joint_qpos_addr("akita_black_bowl_1_joint0")[0]
    env.sim.data.qpos[address] -= 0.04
    env.sim.forward()
    assert drive(env, expert)["is_success"]
