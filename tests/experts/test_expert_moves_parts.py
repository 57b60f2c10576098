"""Goals about a part of a thing, or a thing that cannot be lifted: one task of each kind, closed loop."""

import pytest

from vega_policy.envs.experts.expert import Expert
from vega_policy.envs.libero.env import LiberoEnv
from vega_policy.envs.libero.tasks import find_task

pytestmark = [pytest.mark.sim, pytest.mark.slow]

TASKS = [
    ("libero_goal", 7, "turn on the stove"),
    ("libero_90", 0, "close the top drawer of the cabinet"),
    ("libero_goal", 5, "push the plate to the front of the stove"),
]


@pytest.mark.parametrize(("suite", "task_id", "instruction"), TASKS, ids=["Turnon", "Close", "Slide"])
def test_it_moves_what_it_does_not_pick_up(suite: str, task_id: int, instruction: str) -> None:
    assert find_task(suite, task_id).language == instruction
    env = LiberoEnv(suite, task_id, assets="standin", images=False)
    env.reset(seed=0, options={"trial": 0})
    expert = Expert(env)
    expert.reset(seed=0)
    ended = False
    while not ended:
        *_, terminated, truncated, info = env.step(expert.act())
        ended = terminated or truncated
    assert info["is_success"]
    env.close()
