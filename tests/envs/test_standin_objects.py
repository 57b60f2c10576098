"""The stand-in objects: sizes, masses, joints and sites against what was measured on LIBERO's own.

`libero_objects.json` holds the measurements, per object type: mass in a plain compile (`mass_kg`) and in a
running scene (`solid_kg`), the box around what collides, bodies, joints and sites, in metres in the frame of
body `object`.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from vega_policy.envs.libero.assets import assets_lent, resolve_assets
from vega_policy.envs.libero.installation import import_libero
from vega_policy.envs.libero.standins import build

mujoco = pytest.importorskip("mujoco")

MEASURED: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "libero_objects.json").read_text())
FIXTURES = {"flat_stove", "microwave", "wine_rack", "desk_caddy", "wooden_two_layer_shelf"}
FIXTURES |= {"wooden_cabinet", "white_cabinet"}
each_object = pytest.mark.parametrize("name", sorted(MEASURED))


def xml_of(name: str) -> Path:
    (path,) = [path for path in build.ASSETS.rglob(f"{name}.xml") if "scenes" not in path.parts]
    return path


def compiled(name: str, *, running: bool = False) -> Any:
    """The object on its own; `running` leaves out the mass of what is only drawn, as a LIBERO scene does."""
    root = ElementTree.parse(xml_of(name)).getroot()
    for texture in root.iter("texture"):
        texture.set("file", str(xml_of(name).parent / texture.get("file", "")))
    if running:
        root.find("compiler").set("inertiagrouprange", "0 0")
    return mujoco.MjModel.from_xml_string(ElementTree.tostring(root, encoding="unicode"))


def corners(model: Any) -> Iterator[np.ndarray]:
    """Corners of the box around each solid geom, in the frame of body `object`."""
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    origin = data.xpos[model.body("object").id]
    for geom in np.flatnonzero(model.geom_group == 0):
        half = model.geom_size[geom].copy()
        if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_CAPSULE:
            half = np.array([half[0], half[0], half[0] + half[1]])
        signs = np.stack(np.meshgrid(*[(-1, 1)] * 3), -1).reshape(-1, 3)
        yield (signs * half) @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom] - origin


def test_the_committed_kit_is_what_the_builders_write():
    written = {
        str(path.relative_to(build.ASSETS)): path for path in build.ASSETS.rglob("*") if path.is_file()
    }
    files = build.files()
    assert written.keys() == files.keys()
    for name, content in files.items():
        if name.endswith(".png"):
            assert np.array_equal(
                Image.open(written[name]).convert("RGB"), Image.open(io.BytesIO(content)).convert("RGB")
            )
        else:
            assert written[name].read_bytes() == content, f"{name} is stale; run {build.__name__}"


def test_nothing_in_the_kit_mirrors_or_is_a_mesh():
    for path in build.ASSETS.rglob("*.xml"):
        root = ElementTree.parse(path).getroot()
        assert not list(root.iter("mesh")), path
        assert all(float(material.get("reflectance", 0)) == 0 for material in root.iter("material")), path


@each_object
def test_size(name: str):
    points = np.concatenate(list(corners(compiled(name))))
    low, high = np.array(MEASURED[name]["box_m"])
    assert np.abs(points.min(0) - low).max() < 0.005
    assert np.abs(points.max(0) - high).max() < 0.005
    np.testing.assert_allclose(points.max(0) - points.min(0), high - low, rtol=0.1)


@each_object
def test_masses(name: str):
    assert compiled(name, running=True).body_mass.sum() == pytest.approx(MEASURED[name]["solid_kg"], rel=0.1)
    if MEASURED[name]["mass_kg"] is not None:
        assert compiled(name).body_mass.sum() == pytest.approx(MEASURED[name]["mass_kg"], rel=0.1)


@each_object
def test_bodies_and_joints(name: str):
    model = compiled(name)
    assert [model.body(body).name for body in range(2, model.nbody)] == MEASURED[name]["bodies"]
    assert [model.joint(joint).name for joint in range(model.njnt)] == list(MEASURED[name]["joints"])
    for joint, measured in MEASURED[name]["joints"].items():
        np.testing.assert_allclose(model.joint(joint).range, measured["range"], atol=1e-4)
        np.testing.assert_allclose(model.joint(joint).axis, measured["axis"])
        assert model.dof_damping[model.joint(joint).dofadr[0]] == measured["damping"]


@each_object
def test_sites(name: str):
    model = compiled(name)
    assert {model.site(site).name for site in range(model.nsite)} == set(MEASURED[name]["sites"])
    for site, measured in MEASURED[name]["sites"].items():
        np.testing.assert_allclose(model.site(site).pos, measured["pos"], atol=1e-4)
        assert abs(model.site(site).quat @ measured["quat"]) > 0.9999
        if measured["size"] is not None:
            np.testing.assert_allclose(model.site(site).size, measured["size"], atol=1e-4)


@each_object
def test_liberos_classes_read_it(name: str):
    classes = import_libero("libero.libero.envs.objects")
    with assets_lent(resolve_assets("standin")):
        thing = classes.get_object_fn(name)(name="it", **({"joints": None} if name in FIXTURES else {}))
    free = [] if name in FIXTURES else ["it_joint0"]
    assert sorted(thing.joints) == sorted([f"it_{joint}" for joint in MEASURED[name]["joints"]] + free)
    assert thing.contact_geoms
    assert thing.visual_geoms
    assert thing.bottom_offset[2] < thing.top_offset[2]
