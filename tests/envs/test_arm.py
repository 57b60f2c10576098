"""The simulated arm plays LIBERO's own trajectories, and stands still when it is told to or told nothing."""

from collections.abc import Iterator

import numpy as np
import pytest

from vega_policy.envs.libero.arm import OPEN_WIDTH_M, ROTATION_SCALE_RAD, TRANSLATION_SCALE_M, LiberoArm
from vega_policy.envs.libero.env import LiberoEnv

pytestmark = pytest.mark.sim


def build() -> LiberoEnv:
    return LiberoEnv("libero_spatial", 0, assets="standin", image_size_px=32)


@pytest.fixture(scope="module")
def env() -> Iterator[LiberoEnv]:
    env = build()
    yield env
    env.close()


@pytest.fixture
def arm(env: LiberoEnv) -> LiberoArm:
    return LiberoArm(env, trial=0, seed=0)


def play(arm: LiberoArm, action: np.ndarray) -> None:
    width_m = (1 - action[6]) / 2 * OPEN_WIDTH_M
    arm.move(action[:3] * TRANSLATION_SCALE_M, action[3:6] * ROTATION_SCALE_RAD, width_m)
    arm.advance()


def test_commands_at_the_right_moments_give_liberos_own_trajectory(env: LiberoEnv) -> None:
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.5, 0.5, (12, 7))
    actions[:, 6] = np.where(np.arange(12) < 6, 1.0, -1.0)
    env.reset(seed=3, options={"trial": 1})
    expected = [env.step(action)[0]["robot_state"] for action in actions]
    arm = LiberoArm(env, trial=1, seed=3)
    for action, state in zip(actions, expected, strict=True):
        play(arm, action)
        seen = arm.measured
        np.testing.assert_allclose(seen.position_m + arm.base_position_m, state["eef"]["pos"], atol=1e-9)
        np.testing.assert_allclose(seen.joints_rad, state["joints"]["pos"], atol=1e-9)
        assert seen.gripper_width_m == pytest.approx(np.abs(state["gripper"]["qpos"]).sum(), abs=1e-9)


def test_without_commands_it_stays_at_its_last_target_although_time_passes(arm: LiberoArm) -> None:
    start_m = arm.measured.position_m
    arm.move(np.array([0.03, 0.0, 0.0]), np.zeros(3), OPEN_WIDTH_M)
    for _ in range(30):
        arm.advance()
    np.testing.assert_allclose(arm.measured.position_m - start_m, [0.03, 0, 0], atol=0.005)
    before_m = arm.measured.position_m
    for _ in range(20):
        arm.advance()
    np.testing.assert_allclose(arm.measured.position_m, before_m, atol=0.001)


def test_the_brake_stops_it_within_two_millimetres_and_keeps_the_grip(arm: LiberoArm) -> None:
    for _ in range(8):
        last_m = arm.measured.position_m
        arm.move(np.array([0.05, 0.0, 0.0]), np.zeros(3), 0.0)
        arm.advance()
    assert np.linalg.norm(arm.measured.position_m - last_m) > 0.008, "it was moving at 0.2 m/s"
    before_m = arm.measured.position_m
    arm.brake()
    for _ in range(5):
        arm.advance()
        assert np.linalg.norm(arm.measured.position_m - before_m) < 0.002
    assert arm.measured.gripper_width_m < 0.03


def test_cameras_take_turns_and_their_pictures_are_upright(arm: LiberoArm) -> None:
    assert [arm.advance() for _ in range(4)] == [["image2"], ["image"], ["image2"], ["image"]]
    raw = arm._raw.draw("agentview", 32)
    np.testing.assert_array_equal(arm.frames["image"], raw[::-1, ::-1])


def test_a_width_between_open_and_closed_is_approached(arm: LiberoArm) -> None:
    for _ in range(25):
        arm.move(np.zeros(3), np.zeros(3), 0.04)
        arm.advance()
    assert arm.measured.gripper_width_m == pytest.approx(0.04, abs=0.015)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(arm: LiberoArm, bad: float) -> None:
    with pytest.raises(ValueError, match="expected a finite displacement"):
        arm.move(np.array([bad, 0, 0]), np.zeros(3), 0.08)


def test_cameras_cannot_be_faster_than_one_picture_a_period(env: LiberoEnv) -> None:
    with pytest.raises(ValueError, match="expected camera_periods >= 2, got 1"):
        LiberoArm(env, trial=0, seed=0, camera_periods=1)
