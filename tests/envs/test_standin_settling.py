"""The stand-in kit in LIBERO's scenes: tasks build from LIBERO's own init states and objects come to rest.

The full sweeps (all 130 tasks; all 2,000 init states of the main suites) are marked slow.
"""

import gc
import os
from typing import Any

import numpy as np
import pytest

from vega_policy.envs.libero.env import LiberoEnv
from vega_policy.envs.libero.standins.settling import MAIN_SUITES, settle
from vega_policy.envs.libero.tasks import SUITES, suite_tasks

pytest.importorskip("libero")
pytestmark = pytest.mark.sim

# One task for each arena and, together, every fixture.
SCENES = [("libero_spatial", 4), ("libero_object", 0), ("libero_goal", 8), ("libero_10", 4), ("libero_10", 5)]
SCENES += [("libero_10", 9), ("libero_90", 28), ("libero_90", 87)]
EVERY_TASK = [(suite, task_id) for suite in SUITES for task_id in range(90 if suite == "libero_90" else 10)]


def check_builds(suite: str, task_id: int) -> None:
    """Every init state fits the model, and a reset yields a finite state of an unsolved task."""
    env = LiberoEnv(suite, task_id, assets="standin", images=False)
    env.reset(seed=0)
    model = env.sim.model
    assert env.init_states.shape[1] == 1 + model.nq + model.nv
    assert np.isfinite(env.sim.get_state().flatten()).all()
    assert not env.raw._check_success()
    env.close()
    gc.collect()


def check_settles(suite: str, task_ids: range, trials: range) -> None:
    rows = [row for task_id in task_ids for row in settle(suite, task_id, "standin", trials)]
    assert not any(row.solved for row in rows)
    assert np.mean([row.in_place for row in rows]) >= 0.95
    assert np.mean([row.at_rest for row in rows]) >= 0.95


@pytest.mark.parametrize(("suite", "task_id"), SCENES)
def test_scenes_build_and_reset(suite: str, task_id: int):
    check_builds(suite, task_id)


@pytest.mark.slow
@pytest.mark.parametrize(("suite", "task_id"), EVERY_TASK)
def test_every_task_builds_and_resets(suite: str, task_id: int):
    assert len(suite_tasks(suite)) == (90 if suite == "libero_90" else 10)
    check_builds(suite, task_id)


def layout(suite: str, task_id: int, assets: str) -> dict[str, Any]:
    """What the numbers of a state vector mean, and the names a goal can mention."""
    env = LiberoEnv(suite, task_id, assets=assets, images=False)
    env.raw.restart(0, env.init_states[0])
    model = env.sim.model
    joints = [
        (model.joint_id2name(joint), model.jnt_qposadr[joint], model.jnt_dofadr[joint], model.jnt_type[joint])
        for joint in range(model.njnt)
    ]
    bodies = {model.body_id2name(body): model.body_pos[body].round(4).tolist() for body in range(model.nbody)}
    sites = [model.site_id2name(site) for site in range(model.nsite)]
    env.close()
    return {"joints": joints, "bodies": bodies, "sites": sites}


@pytest.mark.official
@pytest.mark.skipif("LIBERO_ASSETS" not in os.environ, reason="LIBERO_ASSETS is not set")
@pytest.mark.parametrize(("suite", "task_id"), [("libero_goal", 8), ("libero_10", 9)])
def test_states_mean_the_same_as_with_the_official_assets(suite: str, task_id: int):
    assert layout(suite, task_id, "standin") == layout(suite, task_id, "official")


@pytest.mark.parametrize("suite", MAIN_SUITES)
def test_objects_come_to_rest_in_place(suite: str):
    check_settles(suite, range(1, 2), range(2))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("suite", MAIN_SUITES)
def test_objects_come_to_rest_in_place_from_every_init_state(suite: str):
    check_settles(suite, range(10), range(50))
