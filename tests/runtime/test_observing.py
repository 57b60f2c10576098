"""Readings as a policy for LIBERO sees them, and commands as it would have asked for them."""

import numpy as np
import pytest
from fake_arm import PANDA, state
from scipy.spatial.transform import Rotation

from vega_policy.runtime.observing import Observer, action_of, square
from vega_policy.runtime.robots.base import Frame, Reading
from vega_policy.runtime.specs import libero_spec

OBSERVER = Observer({"image": "front", "image2": "wrist"}, (-0.66, 0.0, 0.912), 8)


def reading(**changes: object) -> Reading:
    picture = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    frames = {"front": Frame(picture, 0.0), "wrist": Frame(picture[::-1], 0.0), "spare": Frame(picture, 0.0)}
    return Reading(state(**changes), frames)  # type: ignore[arg-type]


def test_an_observation_fits_the_contract_of_libero_policies() -> None:
    seen = OBSERVER.observation(reading(gripper_width_m=0.06), "put the bowl on the plate")
    parts = libero_spec(("image", "image2"), 7, 20.0, "").check(seen)
    np.testing.assert_allclose(parts["robot_state"]["eef"]["pos"], [-0.16, 0.0, 1.212])
    np.testing.assert_allclose(parts["robot_state"]["gripper"]["qpos"], [0.03, -0.03])
    upright = reading().frames["front"].pixels
    np.testing.assert_array_equal(parts["pixels"]["image"], upright[::-1, ::-1])


@pytest.mark.parametrize("tilt_rad", [-0.3, -1e-3, 1e-3, 0.3])
def test_a_hand_that_points_down_has_one_continuous_quaternion(tilt_rad: float) -> None:
    """Near w = 0 the usual choice of sign, w >= 0, would jump between two opposite rotation vectors."""
    down = Rotation.from_rotvec([np.pi, 0, 0]) * Rotation.from_rotvec([tilt_rad, 0, 0])
    quaternion = OBSERVER.observation(reading(rotation=down.as_matrix()), "")["robot_state"]["eef"]["quat"]
    np.testing.assert_allclose(quaternion, [np.cos(tilt_rad / 2), 0, 0, -np.sin(tilt_rad / 2)], atol=1e-9)


def test_a_camera_that_the_robot_lacks_is_named() -> None:
    observer = Observer({"image": "frnt"}, (0.0, 0.0, 0.0), 8)
    with pytest.raises(ValueError, match=r"unknown camera of the robot 'frnt'.*did you mean 'front'"):
        observer.observation(reading(), "")


def test_a_wide_picture_loses_its_sides_and_is_scaled() -> None:
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 20:60] = 200  # the middle square
    small = square(picture, 10)
    assert small.shape == (10, 10, 3)
    assert (small == 200).all()
    assert square(picture[:, 20:60], 40).shape == (40, 40, 3)


def test_a_command_turns_back_into_the_action_it_came_from() -> None:
    action = np.array([0.5, -1.0, 0.25, 0.1, 0.0, -0.2, 1.0])
    np.testing.assert_allclose(action_of(PANDA.actions.command(action), PANDA.actions), action)
