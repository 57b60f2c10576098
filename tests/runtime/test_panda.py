"""The adapter above a Panda's driver, and the switch that holds the arm when nobody commands it."""

from dataclasses import replace

import numpy as np
import pytest
from fake_arm import PANDA, command
from kinematic_arm import PERIOD_S, KinematicDriver
from scipy.spatial.transform import Rotation

from vega_policy.runtime.clock import FakeClock
from vega_policy.runtime.robots.base import Command
from vega_policy.runtime.robots.deadman import Deadman
from vega_policy.runtime.robots.panda import HoldStep, Panda


def arm(sag_m: float = 0.0) -> tuple[KinematicDriver, Panda]:
    driver = KinematicDriver(FakeClock(), sag_m=sag_m)
    return driver, Panda(driver, {"front": driver})


def test_holding_undoes_a_sag_that_zero_deltas_would_let_grow() -> None:
    sagging, held = arm(sag_m=0.001), arm(sag_m=0.001)
    for _ in range(200):
        sagging[1].command(command(0.0))
        held[1].hold()
        sagging[0].advance()
        held[0].advance()
    assert sagging[0].position_m[2] < 0.11
    np.testing.assert_allclose(held[0].position_m, [0.5, 0, 0.3], atol=0.004)


def test_a_hold_keeps_the_grasp_and_the_orientation_it_began_with() -> None:
    driver, panda = arm()
    panda.command(command(0.05, roll=0.2, width_m=0.0))
    driver.width_m = 0.03  # the fingers have met an object
    panda.hold()
    turned = driver.rotation.copy()
    driver.rotation = np.diag([1.0, -1.0, -1.0])  # somebody turns the hand away, by 0.2 rad
    panda.hold()
    assert [move.gripper_width_m for move in driver.moves] == [0.0, 0.0, 0.0], "it goes on closing"
    panda.hold()
    np.testing.assert_allclose(driver.rotation, turned, atol=1e-6)


def test_an_arm_that_was_pushed_away_comes_back_slowly() -> None:
    driver, panda = arm()
    panda.hold()
    driver.position_m = driver.position_m + np.array([0.0, 0.09, 0.0])
    panda.hold()
    np.testing.assert_allclose(driver.moves[-1].translation_m, [0, -HoldStep().length_m, 0])


@pytest.mark.parametrize("is_turned", [False, True])
def test_an_arm_that_was_led_away_stays_where_it_is_found(is_turned: bool) -> None:
    driver, panda = arm()
    panda.hold()
    if is_turned:
        driver.rotation = np.diag([-1.0, 1.0, -1.0]) @ driver.rotation
    else:
        driver.position_m = driver.position_m + np.array([0.0, 0.11, 0.0])
    for _ in range(2):
        panda.hold()
        np.testing.assert_array_equal(driver.moves[-1].translation_m, np.zeros(3))
        np.testing.assert_allclose(driver.moves[-1].rotation_rad, np.zeros(3), atol=1e-9)


def test_an_arm_in_other_hands_is_not_brought_back_when_it_obeys_again() -> None:
    """A user stop: the driver refuses, a person leads the arm a little way, and lets it go."""
    driver, panda = arm()
    panda.hold()
    move = driver.move

    def refuse(_: Command) -> Command:
        raise OSError("user stop pressed")

    driver.move = refuse  # type: ignore[method-assign]
    for _ in range(3):
        with pytest.raises(OSError, match="user stop"):
            panda.hold()
        driver.position_m = driver.position_m + np.array([0.0, 0.03, 0.0])
    driver.move = move  # type: ignore[method-assign]
    panda.hold()
    np.testing.assert_array_equal(driver.moves[-1].translation_m, np.zeros(3))


def test_a_hold_goes_no_farther_than_the_limits_let_a_command_go() -> None:
    cautious = replace(PANDA.limits, max_step_m=0.005, max_step_rad=0.03)
    slow = replace(PANDA.limits, max_speed_m_per_s=0.1, max_speed_rad_per_s=0.6)
    turned = Rotation.from_rotvec([0.0, 0.0, 0.4]).as_matrix()
    for limits in (cautious, slow):
        driver, _ = arm()
        panda = Panda(driver, {}, HoldStep.within(limits, PERIOD_S))
        panda.hold()
        driver.position_m = driver.position_m + np.array([0.0, 0.09, 0.0])
        driver.rotation = turned @ driver.rotation
        panda.hold()
        assert np.linalg.norm(driver.moves[-1].translation_m) == pytest.approx(0.005)
        assert np.linalg.norm(driver.moves[-1].rotation_rad) == pytest.approx(0.03)


def test_an_arm_that_does_not_know_where_it_is_stops_instead_of_holding() -> None:
    driver, panda = arm()
    panda.hold()
    driver.target_m = driver.position_m + 0.1
    driver.position_m = np.array([np.nan, 0.0, 0.3])
    panda.hold()
    assert len(driver.moves) == 1
    np.testing.assert_array_equal(driver.target_m, driver.position_m)
    driver.position_m = np.array([0.6, 0.0, 0.3])
    panda.hold()
    np.testing.assert_array_equal(driver.moves[-1].translation_m, np.zeros(3))


def test_a_hold_begins_anew_after_a_command_and_after_a_stop() -> None:
    driver, panda = arm()
    for interrupt in (lambda: panda.command(command(0.0)), panda.stop):
        panda.hold()
        driver.position_m = driver.position_m + np.array([0.0, 0.1, 0.0])
        interrupt()
        panda.hold()
        np.testing.assert_array_equal(driver.moves[-1].translation_m, np.zeros(3))


def test_after_a_silence_the_arm_holds_by_itself_and_after_a_stop_it_stays_stopped() -> None:
    clock = FakeClock()
    driver = KinematicDriver(clock)
    orders: list[str] = []

    class Noted(Panda):
        def hold(self) -> None:
            orders.append("hold")

        def stop(self) -> None:
            orders.append("stop")

    deadman = Deadman(Noted(driver, {}), clock, limit_s=0.25)
    deadman.command(command(0.05))
    for _ in range(2):
        clock.advance(0.2)
        deadman.check()
    assert orders == ["hold"]
    deadman.stop()
    clock.advance(1.0)
    deadman.check()
    deadman.check()
    assert orders == ["hold", "stop", "stop", "stop"]
    assert deadman.num_silences == 2
