"""Init states of LIBERO in which the expert once got stuck for good."""

import os

import pytest

from vega_policy.envs.experts.expert import Expert
from vega_policy.envs.libero.env import LiberoEnv

pytestmark = [pytest.mark.sim, pytest.mark.slow]

CASES = {
    "a bowl dragged along its drawer slips out of the fingers": ("libero_spatial", 4, 2, 1818937926),
    "an elbow that is stretched with a bowl in the hand locks": ("libero_spatial", 8, 3, 1033428239),
    "a hand that leans outward near the base turns its wrist to the end": ("libero_goal", 2, 3, 1511522966),
    "a hand that leans towards its own base spins its wrist on the way": ("libero_goal", 3, 4, 193923981),
    "a straight elbow does not let the hand come straight back": ("libero_90", 13, 4, 879450645),
    "a book that meets an edge on its way in is not let go there": ("libero_90", 75, 1, 2060732610),
}


@pytest.mark.parametrize(("suite", "task_id", "trial", "seed"), CASES.values(), ids=CASES)
def test_it_gets_out_of(suite: str, task_id: int, trial: int, seed: int) -> None:
    play("standin", suite, task_id, trial, seed)


@pytest.mark.skipif("LIBERO_ASSETS" not in os.environ, reason="needs LIBERO_ASSETS")
def test_it_does_not_close_on_the_walls_of_two_things() -> None:
    play("official", "libero_spatial", 1, 2, 1007167987)


def play(assets: str, suite: str, task_id: int, trial: int, seed: int) -> None:
    env = LiberoEnv(suite, task_id, assets=assets, images=False)
    env.reset(seed=seed, options={"trial": trial})
    expert = Expert(env)
    expert.reset(seed=seed)
    while True:
        *_, terminated, truncated, info = env.step(expert.act())
        if terminated or truncated:
            break
    env.close()
    assert info["is_success"]
