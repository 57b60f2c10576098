"""The funnel: continuous, down where there is room, level beside it, up only far aside."""

import numpy as np
import pytest

from vega_policy.envs.experts.geometry import UP, Pose, hand_rotation, rotation_about
from vega_policy.envs.experts.skills.funnel import LEVEL_M, RADIUS_M, RETURN_M, aside_of_grasp_m, height_m

LENGTH_M = 0.07
GRASP = Pose(np.array([0.1, -0.2, 1.0]), hand_rotation(np.array([0.0, 1.0, 0.0]), -UP))
ROOM_M = np.array([0.005, 0.012])


@pytest.mark.parametrize("up_m", [-0.02, 0.0, 0.03, 0.07])
def test_where_there_is_room_it_leads_to_the_end(up_m: float) -> None:
    assert height_m(0.0, up_m, LENGTH_M) == 0.0


def test_over_its_wall_it_leads_down_to_the_wall() -> None:
    assert height_m(RADIUS_M / 2, 0.07, LENGTH_M) == pytest.approx(LENGTH_M / 2)


@pytest.mark.parametrize("up_m", [0.0, 0.005, 0.02])
def test_a_little_aside_it_leads_nowhere_but_sideways(up_m: float) -> None:
    assert height_m(LEVEL_M, up_m, LENGTH_M) == pytest.approx(up_m)


def test_far_aside_it_leads_up() -> None:
    assert height_m(0.99 * RADIUS_M, 0.0, LENGTH_M) == pytest.approx(LENGTH_M, rel=0.05)


@pytest.mark.parametrize(("aside_m", "up_m"), [(1.01 * RADIUS_M, 0.02), (0.0, -0.04), (0.0, LENGTH_M + 0.06)])
def test_outside_it_leads_nowhere(aside_m: float, up_m: float) -> None:
    assert height_m(aside_m, up_m, LENGTH_M) is None


def test_beside_a_grasp_it_leads_back_on_a_gentle_slope() -> None:
    heights_m = [height_m(aside_m, 0.0, LENGTH_M, RETURN_M) for aside_m in (0.02, 0.03, 0.04, RETURN_M)]
    assert heights_m == pytest.approx([0.2 * LENGTH_M * 2 / 3, 0.4 * LENGTH_M, 0.6 * LENGTH_M, LENGTH_M])
    assert height_m(RETURN_M / 2, LENGTH_M, LENGTH_M, RETURN_M) == LENGTH_M, "from above as ever"
    assert height_m(1.01 * RETURN_M, 0.02, LENGTH_M, RETURN_M) is None


@pytest.mark.parametrize("return_m", [RADIUS_M, RETURN_M])
def test_places_a_millimetre_apart_ask_for_nearly_the_same(return_m: float) -> None:
    asides_m, ups_m = np.meshgrid(np.arange(0.0, return_m, 0.001), np.arange(-0.02, 0.1, 0.001))
    wanted = np.vectorize(lambda aside_m, up_m: height_m(aside_m, up_m, LENGTH_M, return_m))(asides_m, ups_m)
    steepest = max(np.abs(np.diff(wanted, axis=axis)).max() for axis in (0, 1))
    assert steepest < 0.008


def test_fingers_may_be_further_off_across_the_closing_axis_than_along_it() -> None:
    along, across = 0.01 * GRASP.rotation[:, 0], 0.01 * GRASP.rotation[:, 1]
    assert aside_of_grasp_m(GRASP.moved(across + 0.03 * UP), GRASP, ROOM_M) == 0.0
    assert aside_of_grasp_m(GRASP.moved(along), GRASP, ROOM_M) == pytest.approx(0.005)


def test_a_hand_that_has_still_to_turn_counts_as_aside() -> None:
    turned = [GRASP.turned(rotation_about(UP, angle_rad)) for angle_rad in (0.1, 0.3, 0.8)]
    asides_m = [aside_of_grasp_m(hand, GRASP, ROOM_M) for hand in turned]
    assert asides_m[0] == 0.0
    assert 0.0 < asides_m[1] < RADIUS_M < asides_m[2]
