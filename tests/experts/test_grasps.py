"""Grasps of boxes in any posture, from their surface alone."""

import numpy as np
import pytest

from vega_policy.envs.experts.geometry import UP, rotation_about
from vega_policy.envs.experts.grasps import MAX_WIDTH_M, Grasp, upright_grasps
from vega_policy.envs.experts.surface import Surface

LONG_M, WIDE_M, THICK_M = 0.09, 0.045, 0.025
CENTRE = np.array([0.0, 0.1, 0.95])
LONG_AXIS = np.array([1.0, 0.0, 0.0])


def carton(roll_deg: float, size_m: tuple[float, float, float] = (LONG_M, WIDE_M, THICK_M)) -> Surface:
    """A box turned about its long axis, as points on its six faces."""
    grid = np.stack(np.meshgrid(*2 * [np.linspace(-0.9, 0.9, 15)]), -1).reshape(-1, 2)
    points, normals = [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            face = np.insert(grid, axis, sign, axis=1)
            points.append(face * np.array(size_m) / 2)
            normals.append(np.tile(sign * np.eye(3)[axis], (len(grid), 1)))
    turn = rotation_about(LONG_AXIS, float(np.radians(roll_deg)))
    return Surface(CENTRE + np.concatenate(points) @ turn.T, np.concatenate(normals) @ turn.T)


def grasps(surface: Surface) -> list[Grasp]:
    return upright_grasps(surface, CENTRE, np.array([-0.6, 0.0, 0.0]), np.random.default_rng(0))


@pytest.mark.parametrize("roll_deg", [0, 20, 45, 50, 90])
def test_a_carton_is_grasped_across_its_narrow_sides_however_it_leans(roll_deg: float) -> None:
    found = grasps(carton(roll_deg))
    assert found
    for grasp in found:
        assert grasp.width_m <= WIDE_M + 1e-6
        assert abs(grasp.hand.rotation[:, 0] @ LONG_AXIS) < 1e-6
        assert grasp.hand.rotation[:, 2] @ UP == pytest.approx(-1.0)
        assert np.linalg.norm(grasp.hand.position - CENTRE) < LONG_M


def test_what_is_too_wide_for_the_fingers_has_no_grasp() -> None:
    assert grasps(carton(0, (0.1, MAX_WIDTH_M + 0.01, 0.09))) == []
