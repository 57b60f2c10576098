"""States, images and end of episode equal plain LIBERO's byte for byte, whatever ran before.

Plain LIBERO runs in a process of its own, so these tests compare processes as well.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vega_policy.envs.libero.env import LiberoEnv

pytestmark = pytest.mark.sim

PLAIN = Path(__file__).with_name("plain_libero.py")
TRIAL, SEED = 3, 11
DRAWER_TASK = ("libero_spatial", 4)  # a drawer is opened at reset: LIBERO's list of such openings grows
STOVE_TASK = ("libero_goal", 7)  # turning the knob on solves the task and lights the burner after sampling
OBJECT_TASK = ("libero_object", 3)  # with official assets, states show that a render context was made
KNOB, KNOB_ON_RAD, KNOB_STEP = "flat_stove_1_button", 1.5, 4

Episode = dict[str, np.ndarray]


def random_actions(steps: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (steps, 7))


def plain_episode(folder: Path, suite: str, task_id: int, **given: object) -> Episode:
    """What plain LIBERO returns at every step; row 0 is after the settle steps."""
    source, target = folder / "given.npz", folder / "returned.npz"
    np.savez(source, **given)
    arguments = [suite, task_id, TRIAL, SEED, source, target]
    subprocess.run([sys.executable, PLAIN, *map(str, arguments)], check=True)
    return dict(np.load(target))


@pytest.fixture(scope="module")
def drawer(tmp_path_factory: pytest.TempPathFactory) -> Episode:
    return plain_episode(tmp_path_factory.mktemp("plain"), *DRAWER_TASK, actions=random_actions(12))


@pytest.fixture(scope="module")
def env() -> Iterator[LiberoEnv]:
    env = LiberoEnv(*DRAWER_TASK)
    yield env
    env.close()


def assert_equal(env: LiberoEnv, observation: dict, plain: Episode, step: int) -> None:
    assert np.array_equal(env.sim.get_state().flatten(), plain["state"][step])
    assert np.array_equal(observation["robot_state"]["eef"]["pos"], plain["eef_pos"][step])
    if env.images:
        assert np.array_equal(observation["pixels"]["image"], plain["image"][step])
        assert np.array_equal(observation["pixels"]["image2"], plain["image2"][step])


@pytest.mark.parametrize("history", ["fresh", "after other episodes"])
def test_chunks_end_where_plain_libero_does(env: LiberoEnv, drawer: Episode, history: str) -> None:
    """The same (task, trial, seed) gives the same episode in another process and after any history."""
    if history != "fresh":
        for seed in (1, 2):
            env.reset(seed=seed, options={"trial": seed})
            env.step(random_actions(seed + 1))
    observation, _ = env.reset(seed=SEED, options={"trial": TRIAL})
    assert_equal(env, observation, drawer, 0)
    step = 0
    for length in (1, 8, 3):
        observation, *_ = env.step(random_actions(12)[step : step + length])
        step += length
        assert_equal(env, observation, drawer, step)


def test_episodes_without_images_have_the_same_states(tmp_path: Path) -> None:
    """An expert's run, for which no render context is made, is the run a policy would have had."""
    plain = plain_episode(tmp_path, *OBJECT_TASK, actions=random_actions(4))
    env = LiberoEnv(*OBJECT_TASK, images=False)
    observation, _ = env.reset(seed=SEED, options={"trial": TRIAL})
    assert_equal(env, observation, plain, 0)
    observation, *_ = env.step(random_actions(4))
    assert "pixels" not in observation
    assert_equal(env, observation, plain, 4)
    env.close()


def test_success_ends_a_chunk_with_the_image_of_that_step(tmp_path: Path) -> None:
    """Success is known only after the step whose image is wanted; the burner's colour changes even later."""
    actions = random_actions(8)
    plain = plain_episode(tmp_path, *STOVE_TASK, actions=actions, knob_step=KNOB_STEP)
    env = LiberoEnv(*STOVE_TASK)
    env.reset(seed=SEED, options={"trial": TRIAL})
    env.record_frames = True
    *_, info = env.step(actions[:KNOB_STEP])
    env.sim.data.set_joint_qpos(KNOB, KNOB_ON_RAD)
    observation, reward, terminated, truncated, last = env.step(actions[KNOB_STEP:])
    executed = int(np.argmax(plain["done"]))
    assert 0 < executed == last["steps"] < len(actions)
    assert (reward, terminated, truncated, last["is_success"]) == (1.0, True, False, True)
    assert_equal(env, observation, plain, executed)
    frames = np.stack(info["frames"] + last["frames"])
    assert np.array_equal(frames, plain["image"][1 : executed + 1, ::-1, ::-1])
    env.close()


def test_environments_in_one_process_do_not_disturb_each_other(env: LiberoEnv, drawer: Episode) -> None:
    """Each has a GL context of its own, and closing one leaves the other's objects alone."""
    env.reset(seed=SEED, options={"trial": TRIAL})
    other = LiberoEnv(*STOVE_TASK)
    other.reset(seed=0)
    observation, *_ = env.step(random_actions(12)[:1])
    assert_equal(env, observation, drawer, 1)
    other.close()
    observation, *_ = env.step(random_actions(12)[1:2])
    assert_equal(env, observation, drawer, 2)
