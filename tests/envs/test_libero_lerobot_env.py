"""LeRobot's evaluation finds `vega_libero`, gets its own observation keys, and episode i runs trial i."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from lerobot.envs.configs import EnvConfig
from lerobot.envs.factory import make_env, make_env_config
from lerobot.envs.utils import NEW_ROLLOUT_OPTION, env_to_policy_features, preprocess_observation

from vega_policy.envs.libero.env import LiberoEnv
from vega_policy.envs.libero.lerobot_env import VegaLiberoConfig

SUITE, TASK_ID = "libero_object", 1
FIRST_SEED = 1000  # lerobot-eval's default
NEW_ROLLOUT = {NEW_ROLLOUT_OPTION: True}
STAND_STILL = np.array([0, 0, 0, 0, 0, 0, -1], dtype=np.float32)


def config(**change: object) -> EnvConfig:
    arguments = {"task": SUITE, "task_ids": [TASK_ID], "image_size_px": 64}
    return make_env_config("vega_libero", **{**arguments, **change})


@pytest.fixture(scope="module")
def vector_env() -> Iterator:
    env = make_env(config(), n_envs=2)[SUITE][TASK_ID]
    yield env
    env.close()


@pytest.mark.sim
def test_observations_reach_a_policy_under_lerobots_keys(vector_env) -> None:
    raw, _ = vector_env.reset(seed=[FIRST_SEED, FIRST_SEED + 1], options=NEW_ROLLOUT)
    raw, *_ = vector_env.step(np.stack([STAND_STILL] * 2))
    preprocessor, _ = config().get_env_processors()
    batch = preprocessor(preprocess_observation(raw))
    features = env_to_policy_features(config())
    for name in ("observation.images.image", "observation.images.image2", "observation.state"):
        assert tuple(batch[name].shape) == (2, *features[name].shape)
        assert batch[name].dtype == torch.float32
    upside_down = torch.from_numpy(raw["pixels"]["image"][0]).permute(2, 0, 1) / 255
    assert torch.equal(batch["observation.images.image"][0], upside_down.flip(1, 2))
    assert np.array_equal(vector_env.envs[0].render(), raw["pixels"]["image"][0, ::-1, ::-1])
    state = raw["robot_state"]
    assert torch.allclose(batch["observation.state"][:, :3], torch.from_numpy(state["eef"]["pos"]).float())
    assert torch.allclose(
        batch["observation.state"][:, 6:], torch.from_numpy(state["gripper"]["qpos"]).float()
    )


@pytest.mark.sim
def test_episode_i_runs_init_state_i_with_its_seed(vector_env) -> None:
    """However often the episodes are run again, as in every evaluation of a training run."""
    reference = LiberoEnv(SUITE, TASK_ID, protocol="lerobot", image_size_px=64, images=False)
    for batch in (0, 1, 0):
        episodes = [2 * batch, 2 * batch + 1]
        seeds = [FIRST_SEED + episode for episode in episodes]
        raw, info = vector_env.reset(seed=seeds, options=NEW_ROLLOUT)
        assert info["init_state_id"].tolist() == episodes
        assert info["seed"].tolist() == seeds
    expected, _ = reference.reset(seed=FIRST_SEED + 1, options={"trial": 1})
    assert np.array_equal(raw["robot_state"]["joints"]["pos"][1], expected["robot_state"]["joints"]["pos"])
    reference.close()


@pytest.mark.sim
def test_a_finished_sub_environment_waits_for_the_next_rollout(vector_env) -> None:
    """LeRobot steps all until the last is done; the finished one must neither work nor take an init state."""
    vector_env.reset(seed=[FIRST_SEED, FIRST_SEED + 1], options=NEW_ROLLOUT)
    short = vector_env.envs[0].unwrapped
    short._steps = short.max_steps - 1
    actions = np.stack([STAND_STILL] * 2)
    _, _, terminated, truncated, info = vector_env.step(actions)
    assert (terminated.tolist(), truncated.tolist()) == ([False, False], [True, False])
    for _ in range(3):
        _, _, _, truncated, info = vector_env.step(actions)
        assert info["steps"][0] == short.max_steps
        assert info["trial"].tolist() == [0, 1]
    _, info = vector_env.reset(seed=[FIRST_SEED + 2, FIRST_SEED + 3], options=NEW_ROLLOUT)
    assert info["trial"].tolist() == [2, 3]


@pytest.mark.sim
@pytest.mark.slow
def test_processes_give_the_same_episodes(vector_env) -> None:
    seeds = [FIRST_SEED, FIRST_SEED + 1]
    here, _ = vector_env.reset(seed=seeds, options=NEW_ROLLOUT)
    processes = make_env(config(), n_envs=2, use_async_envs=True)[SUITE][TASK_ID]
    there, _ = processes.reset(seed=seeds, options=NEW_ROLLOUT)
    assert np.array_equal(here["pixels"]["image"], there["pixels"]["image"])
    assert list(processes.call("task_description")) == list(vector_env.call("task_description"))
    assert processes.call("_max_episode_steps")[0] == 280
    processes.close()


def test_suites_and_tasks_are_chosen_or_refused() -> None:
    envs = config(task="libero_object,libero_goal", task_ids=[0, 3]).create_envs(n_envs=1)
    assert {suite: list(tasks) for suite, tasks in envs.items()} == {
        "libero_object": [0, 3],
        "libero_goal": [0, 3],
    }
    with pytest.raises(ValueError, match="did you mean 'libero_goal'"):
        config(task="libero_goals").create_envs(n_envs=1)
    with pytest.raises(ValueError, match="task id 10"):
        config(task_ids=[10]).create_envs(n_envs=1)
    with pytest.raises(ValueError, match="20 Hz"):
        VegaLiberoConfig(fps=30)
