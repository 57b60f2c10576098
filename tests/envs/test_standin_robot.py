"""The low-poly Panda: other pictures, the same simulation."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest

from vega_policy.envs.libero.assets import STANDIN_FOLDER, Assets
from vega_policy.envs.libero.raw import build_raw_env
from vega_policy.envs.libero.standins.robot import lowpoly_xml
from vega_policy.envs.libero.tasks import find_task, load_init_states

STEPS = 200


def build_lift(processor: Callable[[str], str] | None) -> Any:
    """Cube lifting with LIBERO's arm, gripper and mount; needs no LIBERO assets."""
    robosuite = pytest.importorskip("robosuite")
    env = robosuite.make(
        "Lift", robots="Panda", has_renderer=False, has_offscreen_renderer=False, use_camera_obs=False,
        ignore_done=True, controller_configs=robosuite.load_controller_config(default_controller="OSC_POSE"),
    )  # fmt: skip
    env.set_xml_processor(processor)
    np.random.seed(7)
    env.reset()
    return env


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {name: build_lift(processor) for name, processor in (("official", None), ("lowpoly", lowpoly_xml))}


def roll_out(env: Any) -> np.ndarray:
    """States and contact counts of random actions that drift downwards, so that the hand hits the table."""
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(STEPS):
        action = rng.uniform(-1, 1, 7)
        action[2] -= 0.9
        env.step(action)
        rows.append(np.append(env.sim.get_state().flatten(), env.sim.data.ncon))
    return np.array(rows)


@pytest.mark.sim
def test_states_are_byte_equal_with_and_without_low_poly_visuals(models: dict[str, Any]) -> None:
    official, lowpoly = (roll_out(models[name]) for name in ("official", "lowpoly"))
    assert (official[:, -1] > official[0, -1]).sum() > 20, "the hand should touch things in many steps"
    assert official.tobytes() == lowpoly.tobytes()


@pytest.mark.sim
def test_everything_but_visual_geoms_stays(models: dict[str, Any]) -> None:
    official, lowpoly = (models[name].sim.model for name in ("official", "lowpoly"))
    for kind in ("body", "joint", "site", "camera", "actuator", "sensor"):
        assert getattr(official, f"{kind}_names") == getattr(lowpoly, f"{kind}_names")
    for array in ("body_mass", "body_inertia", "body_ipos", "body_iquat", "site_pos", "cam_pos", "cam_quat"):
        np.testing.assert_array_equal(getattr(official, array), getattr(lowpoly, array), err_msg=array)
    solid = [name for name in official.geom_names if name and "_vis" not in name]
    assert "robot0_link5_collision" in solid
    for name in solid:
        before, after = official.geom_name2id(name), lowpoly.geom_name2id(name)
        for array in ("geom_pos", "geom_quat", "geom_size", "geom_friction", "geom_contype", "geom_group"):
            assert np.array_equal(getattr(official, array)[before], getattr(lowpoly, array)[after]), name


@pytest.mark.sim
def test_robosuite_finds_every_visual_geom_by_name(models: dict[str, Any]) -> None:
    missing = set(models["official"].sim.model.geom_names) - set(models["lowpoly"].sim.model.geom_names)
    assert not missing


@pytest.mark.sim
@pytest.mark.slow
@pytest.mark.parametrize(("suite", "task_id"), [("libero_spatial", 0), ("libero_10", 3), ("libero_10", 5)])
def test_states_of_libero_scenes_are_byte_equal_too(suite: str, task_id: int) -> None:
    task = find_task(suite, task_id)
    kinds: tuple[Literal["official", "standin"], ...] = (
        "official",
        "standin",
    )  # official: the robot as it is
    envs = [build_raw_env(task, Assets(STANDIN_FOLDER, kind), images=False) for kind in kinds]
    for env in envs:
        env.restart(0, load_init_states(task)[0])
    plain, lowpoly = (roll_out(env) for env in envs)
    assert drawn_faces(envs[0].sim.model) > 50 * drawn_faces(envs[1].sim.model)
    assert plain.tobytes() == lowpoly.tobytes()


def drawn_faces(model: Any) -> int:
    """Faces of the meshes a renderer draws: those of geom group 1."""
    meshes = model.geom_dataid[(model.geom_group == 1) & (model.geom_type == 7)]
    return int(model.mesh_facenum[meshes].sum())


@pytest.mark.sim
def test_a_fiftieth_of_the_faces_is_left(models: dict[str, Any]) -> None:
    official, lowpoly = (drawn_faces(models[name].sim.model) for name in ("official", "lowpoly"))
    assert official > 100_000
    assert 0 < lowpoly < official / 50


@pytest.mark.sim
def test_unused_meshes_and_materials_are_left_out(models: dict[str, Any]) -> None:
    root = ET.fromstring(lowpoly_xml(models["official"].model.get_xml()))
    for kind in ("mesh", "material"):
        used = {geom.get(kind) for geom in root.iter("geom")}
        assert {asset.get("name") for asset in root.iterfind(f"asset/{kind}")} <= used


def test_a_model_without_a_panda_is_refused() -> None:
    with pytest.raises(ValueError, match="robot0_link0"):
        lowpoly_xml("<mujoco><asset/><worldbody><body name='table'/></worldbody></mujoco>")
