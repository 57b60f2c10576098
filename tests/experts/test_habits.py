"""The measure of how alike grips are."""

import pytest

from vega_policy.envs.experts.habits import first_grips, share_alike


def test_directions_are_alike_modulo_half_a_turn() -> None:
    assert share_alike([2.0, 178.0, 10.0]) == 1.0
    assert share_alike([0.0, 90.0, 91.0, 89.0]) == 0.75
    assert share_alike([0.0, 45.0, 90.0, 135.0]) == 0.25
    assert share_alike([]) == 1.0


@pytest.mark.sim
def test_the_expert_grips_a_can_alike_in_every_placement() -> None:
    """Round, and gripped across or along at random before turns had their price."""
    found = list(first_grips("libero_object", 5, "standin", range(3)))
    assert len(found) == 3
    assert share_alike(found) == 1.0
