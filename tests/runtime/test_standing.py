"""The policy `hold` of an arm moves nothing, and does not open a hand that is closed."""

import numpy as np
import pytest

from vega_policy.runtime.robots.base import EndEffectorDelta
from vega_policy.runtime.standing import Stay


@pytest.mark.parametrize("width_m", [0.0, 0.031, 0.08])
def test_the_fingers_stay_as_wide_as_they_are(width_m: float) -> None:
    scale = EndEffectorDelta()
    chunk = Stay(scale).act({"robot_state": {"gripper": {"qpos": np.array([width_m, -width_m]) / 2}}})
    for action in chunk:
        command = scale.command(action)
        assert not command.translation_m.any()
        assert not command.rotation_rad.any()
        assert command.gripper_width_m == pytest.approx(width_m)
