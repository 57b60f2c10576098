"""The measures of how alike grips are, and of what is asked for beside them."""

import numpy as np
import pytest

from vega_policy.envs.experts.habits import Grip, first_grips, lifts_by_distance, share_alike


def test_directions_are_alike_modulo_half_a_turn() -> None:
    assert share_alike([2.0, 178.0, 10.0]) == 1.0
    assert share_alike([0.0, 90.0, 91.0, 89.0]) == 0.75
    assert share_alike([0.0, 45.0, 90.0, 135.0]) == 0.25
    assert share_alike([]) == 1.0


def test_steps_are_sorted_by_how_far_aside_they_are_and_high_ones_are_left_out() -> None:
    away_m = np.array([[0, 0.005, 0.01], [0.01, 0, 0.03], [0, -0.01, 0], [0, 0, 0.2], [0.5, 0, 0]])
    lifts = lifts_by_distance([Grip(90.0, away_m, np.array([-1.0, -0.5, 0.5, 1.0, 1.0]))])
    assert [list(lift) for lift in lifts] == [[-1.0], [-0.5, 0.5], [], []]


@pytest.mark.sim
def test_the_expert_grips_a_can_alike_in_every_placement() -> None:
    """Round, and gripped across or along at random before turns had their price."""
    found = list(first_grips("libero_object", 5, "standin", range(3)))
    assert len(found) == 3
    assert share_alike([grip.direction_deg for grip in found]) == 1.0


@pytest.mark.sim
def test_the_expert_goes_down_and_never_up_again_beside_a_grip() -> None:
    """A disturbed hand went up in a third of the steps 6 to 12 mm aside before there was a funnel."""
    found = list(first_grips("libero_spatial", 2, "standin", range(4), action_noise=0.15))
    near = np.concatenate(lifts_by_distance(found)[:3])
    assert len(near) >= 8
    assert (near > 0.2).mean() < 0.1
    assert (near < -0.2).mean() > 0.7
