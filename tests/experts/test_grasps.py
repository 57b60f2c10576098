"""Grasps of boxes in any posture, from their surface alone."""

import numpy as np
import pytest

from vega_policy.envs.experts.geometry import DOWN, UP, rotation_about
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


def can(turn_deg: float, radius_m: float = 0.025) -> Surface:
    """An upright can of sixteen flat sides, turned about its middle."""
    angles = np.radians(turn_deg + 22.5 * np.arange(16))
    ring = np.stack([np.cos(angles), np.sin(angles), np.zeros(16)], axis=1)
    along = np.stack([-ring[:, 1], ring[:, 0], np.zeros(16)], axis=1)
    spots = np.stack(np.meshgrid([-0.004, 0.0, 0.004], np.linspace(-0.04, 0.04, 17)), -1).reshape(-1, 2)
    points = [radius_m * ring + beside * along + height * UP for beside, height in spots]
    return Surface(CENTRE + np.concatenate(points), np.tile(ring, (len(spots), 1)))


def grasps(surface: Surface, seed: int = 0) -> list[Grasp]:
    return upright_grasps(surface, CENTRE, np.array([-0.6, 0.0, 0.0]), np.random.default_rng(seed))


@pytest.mark.parametrize("roll_deg", [0, 20, 45, 50, 90])
def test_a_carton_is_grasped_across_its_narrow_sides_however_it_leans(roll_deg: float) -> None:
    found = grasps(carton(roll_deg))
    assert found
    for grasp in found:
        assert grasp.width_m <= WIDE_M + 1e-6
        assert abs(grasp.hand.rotation[:, 0] @ LONG_AXIS) < 1e-6
        assert grasp.hand.rotation[:, 2] @ UP == pytest.approx(-1.0)
        assert np.linalg.norm(grasp.hand.position - CENTRE) < LONG_M


def test_a_round_thing_is_grasped_with_the_hand_as_it_hangs_whichever_way_the_thing_is_turned() -> None:
    """Demonstrations that turn the hand now one way, now another, teach a regression to turn it half-way."""
    for seed, turn_deg in enumerate((0.0, 5.0, 10.0, 15.0, 20.0)):
        best = grasps(can(turn_deg), seed)[0].hand.rotation[:, 0]
        assert abs(best @ DOWN[:, 0]) > np.cos(np.radians(16.0))


def test_what_is_too_wide_for_the_fingers_has_no_grasp() -> None:
    assert grasps(carton(0, (0.1, MAX_WIDTH_M + 0.01, 0.09))) == []
