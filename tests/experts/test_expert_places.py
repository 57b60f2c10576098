"""Choices of the planner that need no simulator: which way the hand is turned, and where an object rests."""

import numpy as np
import pytest

from vega_policy.envs.experts.geometry import UP, Pose, angle_between, hand_rotation, rotation_about
from vega_policy.envs.experts.placing import SUNK_M, Placement, _sunk
from vega_policy.envs.experts.regions import SPOT_MARGIN_M, Region

DOWN_TURNED_LEFT = hand_rotation(np.array([-1.0, 0.0, 0.0]), -UP)
REGION = Region(
    Pose(np.array([0.1, 0.2, 0.9]), np.eye(3)), np.array([-0.1, -0.07, 0.0]), np.full(3, 0.1), None
)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("turn_deg", [-15, 0, 15])
def test_a_quarter_turn_is_always_to_the_side_on_which_the_wrist_has_room(sign: float, turn_deg: int) -> None:
    """Both fingers are alike: either direction of closing along x gives the one rotation, not its mirror."""
    turn = rotation_about(UP, float(np.radians(turn_deg)))
    rotation = hand_rotation(sign * turn @ np.array([1.0, 0.0, 0.0]), -UP)
    assert angle_between(rotation, turn @ DOWN_TURNED_LEFT) == pytest.approx(0.0, abs=1e-6)
    assert rotation[1, 1] > 0.9


def placed(height_m: float) -> Placement:
    return Placement(Pose(np.array([0.0, 0.0, height_m]), np.eye(3)), UP, 0.1, 0.0)


def test_an_edge_is_left_for_the_floor() -> None:
    floor, uneven, edge = placed(0.90), placed(0.90 + SUNK_M / 2), placed(0.95)
    assert _sunk([edge, floor, uneven]) == [floor, uneven]
    assert _sunk([edge]) == [edge]
    assert _sunk([]) == []


def test_spots_on_a_line_stay_inside_and_apart() -> None:
    spots = REGION.line(np.array([0.0, 1.0, 0.0]), 0.01)
    np.testing.assert_allclose(
        np.diff(spots, axis=0), np.tile([0.0, 0.01, 0.0], (len(spots) - 1, 1)), atol=1e-9
    )
    assert all(REGION.accepts(spot, SPOT_MARGIN_M - 1e-9) for spot in spots)
