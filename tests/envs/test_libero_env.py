"""The environment's interface: spaces, protocols, limits of an episode, and errors that say what to do."""

import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

import vega_policy.envs.libero
from vega_policy.envs.libero import installation
from vega_policy.envs.libero.env import LiberoEnv
from vega_policy.envs.libero.protocols import PROTOCOLS
from vega_policy.envs.libero.rendering import Cameras
from vega_policy.envs.libero.tasks import SUITES, find_task, load_init_states, suite_tasks

TASK = {"suite": "libero_object", "task_id": 2}
STAND_STILL = np.array([0, 0, 0, 0, 0, 0, -1.0])


@pytest.fixture(scope="module")
def env() -> Iterator[LiberoEnv]:
    env = LiberoEnv(**TASK, images=False)
    yield env
    env.close()


@pytest.mark.sim
def test_gymnasium_makes_and_accepts_it() -> None:
    env = gymnasium.make(vega_policy.envs.libero.ENV_ID, **TASK, image_size_px=32, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning, module="gymnasium")
        warnings.filterwarnings("ignore", ".*Box observation space (minimum|maximum) value is.*infinity.*")
        check_env(env.unwrapped)
    env.close()


def test_registration_imports_no_simulator() -> None:
    code = """
import sys
import gymnasium, vega_policy.envs.libero
gymnasium.spec(vega_policy.envs.libero.ENV_ID)
assert not {"libero", "robosuite", "mujoco", "torch"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("suite", SUITES)
def test_every_task_has_a_scene_an_instruction_and_init_states(suite: str) -> None:
    tasks = suite_tasks(suite)
    assert [task.task_id for task in tasks] == list(range(90 if suite == "libero_90" else 10))
    for task in tasks[::9]:
        assert task.bddl_file.is_file()
        assert task.language.replace(" ", "_") in task.name
        states = load_init_states(task)
        assert states.dtype == np.float64
        assert len(states) >= 50
        assert np.isfinite(states).all()


def test_protocols_differ_on_libero_spatial_only() -> None:
    oft, lerobot = PROTOCOLS["oft"], PROTOCOLS["lerobot"]
    assert {suite for suite in SUITES if oft.max_steps[suite] != lerobot.max_steps[suite]} == {
        "libero_spatial"
    }
    assert oft.max_steps["libero_spatial"] < lerobot.max_steps["libero_spatial"]
    assert oft.settle_steps == lerobot.settle_steps == 10
    assert set(oft.max_steps) == set(lerobot.max_steps) == set(SUITES)


@pytest.mark.sim
def test_an_episode_is_truncated_inside_a_chunk_at_the_step_limit(env: LiberoEnv) -> None:
    env.reset(seed=0)
    limit = PROTOCOLS["oft"].max_steps[TASK["suite"]]
    *_, terminated, truncated, info = env.step(np.tile(STAND_STILL, (limit - 3, 1)))
    assert (terminated, truncated, info["executed"]) == (False, False, limit - 3)
    *_, terminated, truncated, info = env.step(np.tile(STAND_STILL, (8, 1)))
    assert (terminated, truncated, info["executed"], info["steps"]) == (False, True, 3, limit)
    assert not info["is_success"]
    with pytest.raises(ResetNeeded, match="reset"):
        env.step(STAND_STILL)


@pytest.mark.sim
def test_a_chunk_draws_each_camera_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is over nine tenths of a control step, so this is what makes chunks fast."""
    drawn: list[str] = []

    def draw(self: Cameras, camera: str, size_px: int) -> np.ndarray:
        drawn.append(camera)
        return np.zeros((size_px, size_px, 3), np.uint8)

    monkeypatch.setattr(Cameras, "draw", draw)
    env = LiberoEnv(**TASK)
    env.reset(seed=0)
    env.step(np.tile(STAND_STILL, (8, 1)))
    assert drawn == ["agentview", "robot0_eye_in_hand"] * 2
    env.record_frames = True
    drawn.clear()
    *_, info = env.step(np.tile(STAND_STILL, (3, 1)))
    assert len(info["frames"]) == drawn.count("agentview") - 1 == 3
    env.close()


@pytest.mark.sim
def test_relative_actions_are_moves_and_absolute_ones_are_places(env: LiberoEnv) -> None:
    start, _ = env.reset(seed=0)
    pos, mat = start["robot_state"]["eef"]["pos"], start["robot_state"]["eef"]["mat"]
    up = np.array([0, 0, 1.0, 0, 0, 0, -1])
    moved, *_ = env.step(np.tile(up, (5, 1)))
    rise_m = moved["robot_state"]["eef"]["pos"][2] - pos[2]
    assert 0.02 < rise_m <= 5 * 0.05

    from scipy.spatial.transform import Rotation

    absolute = LiberoEnv(**TASK, images=False, control_mode="absolute")
    absolute.reset(seed=0)
    goal = pos + np.array([0.03, -0.04, 0.05])
    action = np.concatenate([goal, Rotation.from_matrix(mat).as_rotvec(), [-1]])
    reached, *_ = absolute.step(np.tile(action, (30, 1)))
    assert np.abs(reached["robot_state"]["eef"]["pos"] - goal).max() < 0.01
    absolute.close()


@pytest.mark.sim
def test_trial_i_starts_from_init_state_i(env: LiberoEnv) -> None:
    _, info = env.reset(seed=0, options={"trial": 9})
    assert (info["trial"], info["init_state_id"], info["seed"]) == (9, 9, 0)
    starts = [env.sim.model.get_joint_qpos_addr(item.joints[-1])[0] for item in env.raw.objects]
    places = np.concatenate([np.arange(start, start + 3) for start in starts])
    distances = np.linalg.norm(env.init_states[:, 1 + places] - env.sim.data.qpos[places], axis=1)
    assert distances.argmin() == 9


@pytest.mark.sim
def test_fixtures_follow_the_seed_alone() -> None:
    """LIBERO places the cabinet anew at every reset, and an init state does not say where it stands."""
    env = LiberoEnv("libero_spatial", 4, images=False)

    def cabinet(seed: int, trial: int) -> np.ndarray:
        env.reset(seed=seed, options={"trial": trial})
        return env.sim.model.body_pos[env.raw.obj_body_id["wooden_cabinet_1"]].copy()

    first, second, again = cabinet(1, 0), cabinet(2, 0), cabinet(1, 5)
    env.close()
    assert np.abs(first - second).max() > 1e-4
    assert np.array_equal(first, again)


@pytest.mark.sim
def test_numpys_global_generator_is_neither_read_nor_moved(env: LiberoEnv) -> None:
    np.random.seed(1)
    first, _ = env.reset(seed=5)
    after = np.random.random()
    np.random.seed(2)
    second, _ = env.reset(seed=5)
    np.random.seed(1)
    assert after == np.random.random()
    assert np.array_equal(first["robot_state"]["joints"]["pos"], second["robot_state"]["joints"]["pos"])


@pytest.mark.sim
def test_a_closed_environment_is_built_again(env: LiberoEnv) -> None:
    before, _ = env.reset(seed=5)
    env.close()
    after, _ = env.reset(seed=5)
    assert np.array_equal(before["robot_state"]["eef"]["mat"], after["robot_state"]["eef"]["mat"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suite": "libero_spacial"}, "did you mean 'libero_spatial'"),
        ({"task_id": 10}, r"tasks 0\.\.9"),
        ({"task_id": -1}, r"tasks 0\.\.9"),
        ({"protocol": "lerobott"}, "did you mean 'lerobot'"),
        ({"control_mode": "absolut"}, "did you mean 'absolute'"),
        ({"assets": "/nowhere"}, "not a folder of LIBERO assets"),
    ],
)
def test_a_wrong_argument_is_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LiberoEnv(**{**TASK, **change})


@pytest.mark.sim
@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.full(7, np.nan), "finite action, got nan at step 0, dimension 0"),
        (np.array([[0.0] * 7, [0.0] * 6 + [np.inf]]), "got inf at step 1, dimension 6"),
        (np.zeros(6), r"got \(6,\)"),
        (np.zeros((0, 7)), r"got \(0, 7\)"),
        (np.zeros((1, 2, 7)), r"got \(1, 2, 7\)"),
    ],
)
def test_a_wrong_action_is_refused_and_nothing_moves(
    env: LiberoEnv, action: np.ndarray, message: str
) -> None:
    env.reset(seed=0)
    before = env.sim.get_state().flatten()
    with pytest.raises(ValueError, match=message):
        env.step(action)
    assert np.array_equal(env.sim.get_state().flatten(), before)


def test_stepping_before_the_first_reset_is_refused() -> None:
    with pytest.raises(ResetNeeded):
        LiberoEnv(**TASK).step(STAND_STILL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": 0, "options": {"trial": 5000}}, r"init states 0\.\.49"),
        ({"seed": 0, "options": {"trial": -1}}, r"init states 0\.\.49"),
        ({"seed": 0, "options": {"trail": 1}}, "did you mean 'trial'"),
        ({"seed": 2**32}, "outside"),
    ],
)
def test_a_wrong_reset_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LiberoEnv(**TASK).reset(**arguments)


@pytest.mark.sim
def test_pictures_are_refused_without_images(env: LiberoEnv) -> None:
    env.reset(seed=0)
    with pytest.raises(ValueError, match="images=True"):
        env.render()


def test_a_mujoco_that_changes_results_warns_or_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {**installation.installed_versions(), "mujoco": "3.8.1"}
    monkeypatch.setattr(installation, "installed_versions", lambda: versions)
    (warning,) = LiberoEnv(**TASK).provenance()["warnings"]
    assert "mujoco 3.8.1 changes LIBERO's results" in warning
    with pytest.raises(RuntimeError, match=r"3\.8\.1.*pip install mujoco==3\.3\.2"):
        LiberoEnv(**TASK, strict=True)


def test_init_states_run_no_code_from_the_file(tmp_path: Path) -> None:
    import dataclasses

    import torch

    class Payload:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    file = tmp_path / "states"
    torch.save(Payload(), file)
    task = dataclasses.replace(find_task(**TASK), init_states_file=file)
    with pytest.raises(pickle.UnpicklingError):
        load_init_states(task)
    assert not (tmp_path / "ran").exists()
