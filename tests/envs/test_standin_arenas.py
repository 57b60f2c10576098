"""The stand-in arenas: what LIBERO looks up in them, and that things stand where they do in LIBERO."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vega_policy.envs.libero.installation import import_libero
from vega_policy.envs.libero.standins import arenas, surfaces

mujoco = pytest.importorskip("mujoco")

# What stands in each scene: name of the body LIBERO hangs its regions on, height of its top in m. LIBERO's
# table class moves and resizes `table`, so as a file it is a cube of 0.8 m.
TOPS = {
    "tabletop": ("table", 0.8),
    "kitchen_tabletop": ("table", 0.8),
    "living_room_tabletop": ("living_room_table", 0.437),
    "study": ("study_table", 0.885),
    "floor": ("floor", 0.0),
}


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kit")
    for name, content in arenas.files().items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def official() -> Path:
    if "LIBERO_ASSETS" not in os.environ:
        pytest.skip("LIBERO_ASSETS is not set")
    return Path(os.environ["LIBERO_ASSETS"])


def load(folder: Path, arena: str) -> Any:
    return mujoco.MjModel.from_xml_path(str(folder / f"scenes/libero_{arena}_base_style.xml"))


def heights_m(model: Any) -> np.ndarray:
    """Heights of the highest solid surfaces over a grid of 5 cm."""
    model.geom_rgba[:, 3] = 1  # rays pass through what is transparent
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    solid = np.array([1, 0, 0, 0, 0, 0], np.uint8)
    hit = np.zeros(1, np.int32)
    heights = []
    for x_m in np.arange(-0.975, 1.0, 0.05):
        for y_m in np.arange(-1.475, 1.5, 0.05):
            start = np.array([x_m, y_m, 1.5])
            distance_m = mujoco.mj_ray(model, data, start, np.array([0, 0, -1.0]), solid, 1, -1, hit)
            heights.append(0.0 if distance_m < 0 else 1.5 - distance_m)
    return np.array(heights)


@pytest.mark.parametrize("arena", TOPS)
def test_top_is_where_init_states_expect_it(kit: Path, arena: str) -> None:
    body, top_m = TOPS[arena]
    model = load(kit, arena)
    assert model.body(body).id > 0
    assert heights_m(model).max() == pytest.approx(top_m, abs=5e-4)


@pytest.mark.parametrize("arena", TOPS)
def test_nothing_makes_rendering_dear(kit: Path, arena: str) -> None:
    model = load(kit, arena)
    assert model.nmesh == 0
    assert not model.mat_reflectance.any()
    assert not model.light_castshadow.any()


@pytest.mark.parametrize("arena", TOPS)
def test_furniture_behind_the_robot_does_not_collide(kit: Path, arena: str) -> None:
    model = load(kit, arena)
    drawn = model.geom_group == 1
    drawn[model.geom("floor").id] = False
    assert drawn.any()
    assert not model.geom_contype[drawn].any()
    assert not model.geom_conaffinity[drawn].any()


def test_every_style_a_task_can_get_has_its_picture(kit: Path) -> None:
    style = import_libero("libero.libero.envs.arenas.style")
    for kind, name in (
        ("floor", "light-gray"), ("floor", "gray-ceramic"), ("floor", "wood-plank"),
        ("wall", "light-gray-plaster"), ("wall", "yellow-linen"),
    ):  # fmt: skip
        assert (kit / "textures" / style.get_texture_filename(kind, name)).is_file()


@pytest.mark.parametrize("name", surfaces.SURFACES)
def test_pictures_are_small_and_tile(name: str) -> None:
    content = surfaces.files()[f"textures/{name}"]
    assert len(content) < 8_000
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    assert pixels.shape == (surfaces.SIZE_PX, surfaces.SIZE_PX, 3)
    for axis in (0, 1):
        jumps = np.abs(np.diff(pixels, axis=axis, append=pixels.take([0], axis=axis))).mean(
            axis=(1 - axis, 2)
        )
        assert jumps[-1] <= jumps[:-1].max(), "the last row or column does not lead over to the first"


def test_files_are_the_same_every_time() -> None:
    assert arenas.files() == arenas.files()


@pytest.mark.official
@pytest.mark.parametrize("arena", TOPS)
def test_names_match_the_official_scene(kit: Path, official: Path, arena: str) -> None:
    ours, theirs = load(kit, arena), load(official, arena)
    for kind, count in (("body", "nbody"), ("site", "nsite"), ("camera", "ncam"), ("light", "nlight")):
        names = [{getattr(m, kind)(i).name for i in range(getattr(m, count))} for m in (ours, theirs)]
        assert names[0] >= names[1] - {"light_kitchen"}, kind  # the kitchen's third light only dazzles
    for camera in ("frontview", "birdview", "agentview", "sideview"):
        np.testing.assert_allclose(ours.camera(camera).pos, theirs.camera(camera).pos, atol=1e-5)
        np.testing.assert_allclose(ours.camera(camera).quat, theirs.camera(camera).quat, atol=1e-5)


@pytest.mark.official
@pytest.mark.parametrize("arena", TOPS)
def test_solid_surfaces_match_the_official_scene(kit: Path, official: Path, arena: str) -> None:
    np.testing.assert_allclose(heights_m(load(kit, arena)), heights_m(load(official, arena)), atol=5e-4)
