"""A LeRobot robot as an arm: a gantry whose joints, in degrees, are millimetres along the base's axes."""

import threading
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_arm import command

from vega_policy.runtime.clock import FakeClock
from vega_policy.runtime.robots.lerobot_arm import (
    LeRobotArmConfig,
    LeRobotCamera,
    LeRobotDriver,
    refuse_unfit,
)
from vega_policy.runtime.robots.panda import Panda

AXES = ["along", "across", "up"]


class Gantry:
    """LeRobot's interface; it goes half of the way to its goal whenever it is read."""

    def __init__(self) -> None:
        self.position = dict.fromkeys(AXES, 100.0) | {"gripper": 100.0}
        self.goal = dict(self.position)
        self.cameras: dict[str, Any] = {}
        self.is_unplugged = False

    @property
    def observation_features(self) -> dict[str, Any]:
        return {**{f"{name}.pos": float for name in self.position}, "front": (4, 6, 3)}

    def get_observation(self) -> dict[str, Any]:
        if self.is_unplugged:
            raise RuntimeError("no status packet")
        for name, goal in self.goal.items():
            self.position[name] += (goal - self.position[name]) / 2
        return {**{f"{k}.pos": v for k, v in self.position.items()}, "front": np.ones((4, 6, 3), np.uint8)}

    def send_action(self, action: dict[str, float]) -> dict[str, float]:
        self.goal = {name.removesuffix(".pos"): value for name, value in action.items()}
        return action


class GantryKinematics:
    def forward_kinematics(self, joint_pos_deg: np.ndarray) -> np.ndarray:
        pose = np.eye(4)
        pose[:3, 3] = joint_pos_deg / 1000
        return pose

    def inverse_kinematics(
        self, current_joint_pos: np.ndarray, desired_ee_pose: np.ndarray, *, orientation_weight: float
    ) -> np.ndarray:
        return desired_ee_pose[:3, 3] * 1000


def build(**changes: Any) -> tuple[Gantry, LeRobotDriver, Panda, FakeClock]:
    clock, gantry = FakeClock(10.0), Gantry()
    config = LeRobotArmConfig(
        **{"robot": {}, "joints": AXES, "urdf": "", "max_joint_step_deg": 30.0, **changes}
    )
    driver = LeRobotDriver(gantry, GantryKinematics(), config, clock)
    driver.cycle()
    return gantry, driver, Panda(driver, {"front": LeRobotCamera(driver, "front")}), clock


def test_a_delta_moves_the_end_effector_and_the_gripper() -> None:
    gantry, driver, arm, _ = build()
    arm.command(command(0.02, z=-0.01, width_m=0.02))
    driver.cycle()
    assert gantry.goal == pytest.approx({"along": 120.0, "across": 100.0, "up": 90.0, "gripper": 25.0})
    reading = arm.read()
    np.testing.assert_allclose(reading.state.position_m, [0.11, 0.1, 0.095])
    np.testing.assert_allclose(reading.state.joints_rad, np.deg2rad([110, 100, 95]))
    assert reading.state.gripper_width_m == pytest.approx(0.05)
    assert reading.frames["front"].pixels.shape == (4, 6, 3)


def test_an_order_is_carried_out_once_and_a_stop_replaces_it() -> None:
    gantry, driver, arm, _ = build()
    arm.command(command(0.02))
    driver.cycle()
    driver.cycle()
    assert gantry.goal["along"] == pytest.approx(120.0), "and not from the new position on"
    arm.command(command(0.02))
    arm.stop()
    before = gantry.position["along"]
    driver.cycle()
    assert gantry.goal["along"] == pytest.approx(before)


def test_holding_brings_it_back_to_where_it_stood() -> None:
    gantry, driver, arm, _ = build()
    arm.hold()
    gantry.position["up"] = 95.0
    for _ in range(8):
        driver.cycle()
        arm.hold()
    assert gantry.position["up"] == pytest.approx(100.0, abs=0.5)


def test_a_device_that_fails_is_an_error_until_it_answers_again() -> None:
    gantry, driver, arm, clock = build()
    gantry.is_unplugged = True
    clock.advance(0.05)
    driver.cycle()
    with pytest.raises(ConnectionError, match="no status packet"):
        arm.read()
    gantry.is_unplugged = False
    driver.cycle()
    assert arm.read().state.time_s == pytest.approx(10.05)


def test_a_pictures_time_is_the_cameras_where_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    gantry, driver, arm, _ = build()
    assert arm.read().frames["front"].time_s == 10.0
    gantry.cameras = {"front": SimpleNamespace(latest_timestamp=99.7)}
    monkeypatch.setattr("time.perf_counter", lambda: 100.0)
    driver.cycle()
    assert arm.read().frames["front"].time_s == pytest.approx(9.7)


def test_a_motor_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"unknown motor 'alon'.*did you mean 'along'"):
        build(joints=["alon"])


def test_a_stop_keeps_the_grasp() -> None:
    gantry, driver, arm, _ = build()
    arm.command(command(0.0, width_m=0.0))
    driver.cycle()
    gantry.position["gripper"] = 40.0  # the fingers have met an object
    driver.cycle()
    arm.stop()
    driver.cycle()
    assert gantry.goal["gripper"] == 0.0


def test_inverse_kinematics_that_leaps_stops_the_arm() -> None:
    gantry, driver, arm, _ = build(max_joint_step_deg=10.0)
    arm.command(command(0.02))
    driver.cycle()
    assert gantry.goal["along"] == 100.0
    with pytest.raises(ConnectionError, match="no joint by more than 10"):
        arm.read()


def test_a_leap_is_told_although_the_device_works_again_before_anybody_reads() -> None:
    _, driver, arm, _ = build(max_joint_step_deg=10.0)
    arm.command(command(0.02))
    driver.cycle()
    driver.cycle()
    with pytest.raises(ConnectionError, match="no joint by more than 10"):
        arm.read()
    arm.read()


def test_a_stop_that_did_not_arrive_is_sent_again() -> None:
    gantry, driver, arm, _ = build()
    arm.command(command(0.02))
    driver.cycle()
    send, failures = gantry.send_action, [OSError("bus busy")]

    def send_after_a_failure(action: dict[str, float]) -> dict[str, float]:
        if failures:
            raise failures.pop()
        return send(action)

    gantry.send_action = send_after_a_failure  # type: ignore[method-assign]
    arm.stop()
    driver.cycle()
    before = gantry.position["along"]
    driver.cycle()
    assert gantry.goal["along"] == pytest.approx(before, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gripper_open": 0.0}, "gripper_open and gripper_closed to differ"),
        ({"open_width_m": 0.0}, "open_width_m > 0"),
    ],
)
def test_a_gripper_without_a_way_is_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**changes)


def test_positions_that_are_no_degrees_are_refused() -> None:
    from lerobot.robots.so_follower.config_so_follower import SOFollowerConfig

    def config(use_degrees: bool) -> Any:
        safe = {"port": "/dev/null", "disable_torque_on_disconnect": False}
        return Pair(SOFollowerConfig(**safe, use_degrees=use_degrees))

    refuse_unfit(config(use_degrees=True))
    with pytest.raises(ValueError, match="use_degrees: true"):
        refuse_unfit(config(use_degrees=False))


def test_the_last_order_is_carried_out_although_it_came_while_the_robot_was_read() -> None:
    gantry, driver, arm, _ = build()
    arm.command(command(0.02))
    read, is_over = gantry.get_observation, threading.Event()

    def read_as_the_run_ends() -> dict[str, Any]:
        seen = read()
        if not is_over.is_set():
            arm.stop()
        is_over.set()
        return seen

    gantry.get_observation = read_as_the_run_ends  # type: ignore[method-assign]
    driver.run(20.0, is_over)
    assert gantry.goal["along"] == pytest.approx(110.0), "where it was measured, half of the way to 120"


@pytest.mark.parametrize("is_nested", [False, True])
def test_a_robot_that_would_fall_when_the_run_ends_is_refused(is_nested: bool) -> None:
    from lerobot.robots.so_follower.config_so_follower import SOFollowerConfig

    def config(**changes: bool) -> Any:
        one = SOFollowerConfig(port="/dev/null", **changes)
        return Pair(one) if is_nested else one

    with pytest.raises(ValueError, match="disable_torque_on_disconnect: false"):
        refuse_unfit(config())
    refuse_unfit(config(disable_torque_on_disconnect=False))


@dataclass
class Pair:
    left: Any
