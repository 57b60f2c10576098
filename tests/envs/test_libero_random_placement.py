"""What collecting demonstrations asks of the environment: fresh placements, and steps after success."""

from collections.abc import Iterator

import numpy as np
import pytest

from vega_policy.envs.libero.env import LiberoEnv

APART_M = 5e-4
"""Official init states of one task lie centimetres apart; simulators of the same state agree far closer."""


@pytest.fixture(scope="module")
def env() -> Iterator[LiberoEnv]:
    env = LiberoEnv("libero_spatial", 0, images=False, assets="standin", steps_after_success=2)
    yield env
    env.close()


def object_positions(env: LiberoEnv, states: np.ndarray) -> np.ndarray:
    """Positions (m) of all movable objects, from rows of qpos: shape (states, objects, 3)."""
    addresses = [env.sim.model.get_joint_qpos_addr(item.joints[-1])[0] for item in env.raw.objects]
    return np.stack([states[:, address : address + 3] for address in addresses], axis=1)


@pytest.mark.sim
def test_random_placements_are_never_official_init_states(env: LiberoEnv) -> None:
    env.raw.restart(0, env.init_states[3])
    official = object_positions(env, env.init_states[:, 1 : 1 + env.sim.model.nq])
    same = object_positions(env, env.sim.data.qpos[None])
    assert np.abs(official - same).max(axis=(1, 2))[3] < 1e-6

    for seed in range(3):
        env.raw.restart(seed, None)
        placed = object_positions(env, env.sim.data.qpos[None])
        assert np.abs(official - placed).max(axis=(1, 2)).min() > APART_M
        _, info = env.reset(seed=seed, options={"placement": "random"})
        assert info["trial"] is None
        assert info["init_state_id"] is None
        settled = object_positions(env, env.sim.data.qpos[None])
        assert np.abs(official - settled).max(axis=(1, 2)).min() > APART_M


@pytest.mark.sim
@pytest.mark.parametrize(("suite", "task_id"), [("libero_object", 0), ("libero_goal", 7), ("libero_10", 4)])
def test_no_suite_gives_away_its_init_states(suite: str, task_id: int) -> None:
    env = LiberoEnv(suite, task_id, images=False, assets="standin")
    env.raw.restart(0, env.init_states[0])
    official = object_positions(env, env.init_states[:, 1 : 1 + env.sim.model.nq])
    for seed in range(2):
        env.raw.restart(seed, None)
        placed = object_positions(env, env.sim.data.qpos[None])
        assert np.abs(official - placed).max(axis=(1, 2)).min() > APART_M
    env.close()


@pytest.mark.sim
def test_random_placements_follow_the_seed_alone(env: LiberoEnv) -> None:
    def start(seed: int) -> np.ndarray:
        env.reset(seed=seed, options={"placement": "random"})
        return env.sim.get_state().flatten()

    first, other = start(1), start(2)
    env.reset(seed=9, options={"trial": 4})
    assert np.array_equal(start(1), first)
    assert np.abs(first - other).max() > 0.01


@pytest.mark.sim
def test_an_episode_goes_on_after_success(env: LiberoEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    env.reset(seed=0)
    answers = iter([False, True, False, False])
    monkeypatch.setattr(env.raw, "_check_success", lambda: next(answers))
    monkeypatch.setattr(env.raw, "reward", lambda action: 0.0)
    _, reward, terminated, truncated, info = env.step(np.zeros((10, 7)))
    assert (info["executed"], info["steps"], info["is_success"]) == (4, 4, True)
    assert (reward, terminated, truncated) == (0.0, True, False)


@pytest.mark.sim
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"placement": "ramdom"}, "did you mean 'random'"),
        ({"placement": "random", "trial": 0}, "leave out the option trial"),
    ],
)
def test_placements_that_do_not_exist_are_refused(env: LiberoEnv, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        env.reset(seed=0, options=options)
