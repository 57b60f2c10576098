"""The geom kinds that are told apart without importing MuJoCo are MuJoCo's."""

import pytest

from vega_policy.envs.experts import surface


@pytest.mark.parametrize("name", ["PLANE", "SPHERE", "CAPSULE", "ELLIPSOID", "CYLINDER", "BOX", "MESH"])
def test_geom_kinds_are_mujocos(name: str) -> None:
    import mujoco

    assert getattr(surface, name) == getattr(mujoco.mjtGeom, f"mjGEOM_{name}")
