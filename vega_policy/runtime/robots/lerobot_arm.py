"""Any LeRobot `Robot` with joint positions, such as an SO-101, as an arm that takes end-effector deltas.

LeRobot's drivers block while they read motors and cameras, and their buses are not thread-safe, so one thread
does everything with the device, once a period; the control loop leaves orders and takes what was read last.
Kinematics are LeRobot's own (its package `placo` reads the URDF). There is no brake: stopping means that the
joints' goals become the positions measured, with the torque left on, since an arm without torque falls.
"""

import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import draccus
import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from vega_policy.names import nearest_name_error
from vega_policy.runtime.clock import Clock
from vega_policy.runtime.robots.base import ArmState, Command, Frame
from vega_policy.runtime.robots.panda import HoldStep, Panda

Pose = Float[np.ndarray, "4 4"]
Joints = Float[np.ndarray, " joints"]


class Kinematics(Protocol):
    """LeRobot's `RobotKinematics`: joints in degrees, poses of the end effector in the base frame."""

    def forward_kinematics(self, joint_pos_deg: Joints) -> Pose:
        """Where the end effector is."""
        ...

    def inverse_kinematics(
        self, current_joint_pos: Joints, desired_ee_pose: Pose, *, orientation_weight: float
    ) -> Joints:
        """Joints near the current ones that bring it to a pose."""
        ...


@dataclass
class LeRobotArmConfig:
    """A YAML file for `--robot.lerobot`.

    Attributes:
        robot: LeRobot's configuration of the robot, `type` and all, as its own programs take it.
        joints: the motors from the base to the wrist, which the URDF calls the same; read in degrees.
        urdf: the arm's description.
        frame: the end effector's frame in it.
        gripper: the motor of the gripper.
        gripper_closed: its position when closed.
        gripper_open: its position when open.
        open_width_m: the distance between the fingers then.
        orientation_weight: against 1 for the position; an arm of five joints cannot satisfy both.
        max_joint_step_deg: the farthest a joint may be sent in one period; inverse kinematics that asks for
            more has leapt to another posture, and the arm stops.
    """

    robot: dict[str, Any]
    joints: list[str]
    urdf: Path
    frame: str = "gripper_frame_link"
    gripper: str = "gripper"
    gripper_closed: float = 0.0
    gripper_open: float = 100.0
    open_width_m: float = 0.08
    orientation_weight: float = 0.01
    max_joint_step_deg: float = 10.0

    def __post_init__(self) -> None:
        for name in ("max_joint_step_deg", "open_width_m"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"expected {name} > 0 and finite, got {getattr(self, name)}")
        if self.gripper_open == self.gripper_closed:
            raise ValueError(
                f"expected gripper_open and gripper_closed to differ, both are {self.gripper_open}"
            )


def open_lerobot_arm(
    path: Path, clock: Clock, rate_hz: float, hold_step: HoldStep, stack: ExitStack
) -> Panda:
    """Connects to the robot that a YAML file describes.

    Raises:
        ValueError: The file names something that the robot does not have, or lets the arm fall at the end;
            the robot does not tell angles in degrees, or is not calibrated.
        OSError: The robot cannot be reached.
        ImportError: LeRobot's extra for this robot or for kinematics is not installed.
    """
    from lerobot.model.kinematics import RobotKinematics
    from lerobot.robots import make_robot_from_config
    from lerobot.robots.config import RobotConfig
    from lerobot.scripts import lerobot_rollout  # noqa: F401  (registers LeRobot's own robots and cameras)
    from lerobot.utils.import_utils import register_third_party_plugins

    config = draccus.parse(LeRobotArmConfig, path, args=[])
    register_third_party_plugins()
    robot_config = draccus.decode(RobotConfig, config.robot)
    refuse_unfit(robot_config)
    robot = make_robot_from_config(robot_config)
    driver = LeRobotDriver(
        robot, RobotKinematics(str(config.urdf), config.frame, config.joints), config, clock
    )
    robot.connect(calibrate=False)
    stack.callback(robot.disconnect)
    if not robot.is_calibrated:
        raise ValueError(
            "expected a calibrated robot: its motors do not have the calibration of LeRobot's file, so its "
            "angles would be wrong; calibrate it with lerobot-calibrate first"
        )
    driver.start(rate_hz, stack)
    return Panda(driver, {name: LeRobotCamera(driver, name) for name in driver.cameras}, hold_step)


def refuse_unfit(config: Any) -> None:
    """Refuse LeRobot's defaults that do not go with an arm that is guarded.

    It takes the torque away when a program ends, and an arm without torque falls; and some of its robots tell
    positions as shares of their range, where kinematics takes degrees.

    Args:
        config: LeRobot's configuration of a robot, perhaps of one with several arms.

    Raises:
        ValueError: The torque would be taken away, or positions would not be degrees.
    """
    if getattr(config, "disable_torque_on_disconnect", False):
        raise ValueError(
            "expected `disable_torque_on_disconnect: false` in the robot's configuration, got true: the arm "
            "would fall when the run ends; set it, and switch the arm off with something under it"
        )
    if getattr(config, "use_degrees", True) is False:
        raise ValueError(
            "expected `use_degrees: true` in the robot's configuration, got false: its joints would be told "
            "in -100 to 100 and taken for degrees"
        )
    for field in fields(config):
        if is_dataclass(part := getattr(config, field.name)):
            refuse_unfit(part)


class LeRobotDriver:
    """The device's side; `start` gives it its thread, which calls `cycle` every period.

    Args:
        robot: a LeRobot `Robot`.
        kinematics: of its joints.
        config: which of its features are what.
        clock: the control loop's.

    Raises:
        ValueError: The robot has no such motors.
    """

    def __init__(self, robot: Any, kinematics: Kinematics, config: LeRobotArmConfig, clock: Clock) -> None:
        features = robot.observation_features
        for motor in (*config.joints, config.gripper):
            if f"{motor}.pos" not in features:
                raise nearest_name_error("motor", motor, [name.removesuffix(".pos") for name in features])
        self.cameras = [name for name, kind in features.items() if isinstance(kind, tuple)]
        self._robot, self._kinematics, self._config, self._clock = robot, kinematics, config, clock
        self._lock = threading.Lock()
        self._order: Command | None = None
        self._is_stopping = False
        self._width_m: float | None = None  # last asked for
        self._state: ArmState | None = None
        self._frames: dict[str, Frame] = {}
        self._failure: Exception | None = None

    def start(self, rate_hz: float, stack: ExitStack) -> None:
        """Reads once, then goes on in a thread until the stack is closed.

        Raises:
            OSError: The robot does not answer.
        """
        self.cycle()
        self.read()
        is_over = threading.Event()
        thread = threading.Thread(target=self.run, args=(rate_hz, is_over), name="lerobot-arm")
        thread.start()
        stack.callback(thread.join)  # after the next line's, which is called first
        stack.callback(is_over.set)

    def run(self, rate_hz: float, is_over: threading.Event) -> None:
        """Cycles until it is over, and once more: an order may have come while the robot was read."""
        due_s = self._clock.now_s()
        while not is_over.is_set():
            due_s = max(due_s + 1 / rate_hz, self._clock.now_s())
            self._clock.sleep_until(due_s)
            self.cycle()
        self.cycle()

    def cycle(self) -> None:
        """Carries out the newest order and reads everything; a failure is told to the next who reads."""
        try:
            self._carry_out()
            before_s = self._clock.now_s()
            seen = self._robot.get_observation()
            state, frames = self._measure(seen, before_s), self._look(seen, before_s)
            with self._lock:
                self._state, self._frames = state, frames
        except Exception as error:  # LeRobot's drivers raise all kinds
            with self._lock:
                self._failure = error

    def read(self) -> ArmState:
        """The state read last.

        Raises:
            ConnectionError: The last attempt to read or to move failed.
        """
        with self._lock:
            failure, self._failure = self._failure, None
            if failure is not None or self._state is None:
                raise ConnectionError(f"the robot failed: {failure!r}") from failure
            return self._state

    def newest(self, camera: str) -> Frame:
        """The picture read last."""
        with self._lock:
            return self._frames[camera]

    def move(self, command: Command) -> Command:
        """Leaves a displacement for the next cycle."""
        with self._lock:
            self._order, self._is_stopping = command, False
        return command

    def stop(self) -> None:
        """Has the next cycle make the positions measured the joints' goals."""
        with self._lock:
            self._order, self._is_stopping = None, True

    def _carry_out(self) -> None:
        with self._lock:
            order, is_stopping, state = self._order, self._is_stopping, self._state
            self._order, self._is_stopping = None, False
        if state is None or (order is None and not is_stopping):
            return
        goal_deg = np.rad2deg(state.joints_rad) if order is None else self._solved(state, order)
        if order is not None:
            self._width_m = order.gripper_width_m
        # A stop keeps the grasp: fingers on an object measure wider than they were asked to be.
        width_m = state.gripper_width_m if self._width_m is None else self._width_m
        action = {
            f"{name}.pos": float(value) for name, value in zip(self._config.joints, goal_deg, strict=True)
        }
        try:
            self._robot.send_action(
                {**action, f"{self._config.gripper}.pos": self._gripper_position(width_m)}
            )
        except BaseException:
            with self._lock:
                self._is_stopping |= is_stopping  # a stop that did not arrive is sent again
            raise

    def _solved(self, state: ArmState, order: Command) -> Joints:
        """The joints in degrees after a displacement.

        Raises:
            ValueError: They are not finite, or far from those measured.
        """
        now_deg, most_deg = np.rad2deg(state.joints_rad), self._config.max_joint_step_deg
        target = moved(self._kinematics.forward_kinematics(now_deg), order)
        weight = self._config.orientation_weight
        solved = self._kinematics.inverse_kinematics(now_deg, target, orientation_weight=weight)
        goal_deg = np.asarray(solved, np.float64)[: len(self._config.joints)]
        if not np.all(np.abs(goal_deg - now_deg) <= most_deg):
            raise ValueError(
                f"expected inverse kinematics to move no joint by more than {most_deg} degrees in a period, "
                f"got from {now_deg.round(1)} to {goal_deg.round(1)}: move more slowly, keep away from "
                "stretched postures, or raise max_joint_step_deg"
            )
        return goal_deg

    def _measure(self, seen: Mapping[str, Any], time_s: float) -> ArmState:
        joints_deg = np.array([float(seen[f"{name}.pos"]) for name in self._config.joints])
        pose = self._kinematics.forward_kinematics(joints_deg)
        closed, opened = self._config.gripper_closed, self._config.gripper_open
        share = (float(seen[f"{self._config.gripper}.pos"]) - closed) / (opened - closed)
        width_m = share * self._config.open_width_m
        return ArmState(time_s, pose[:3, 3].copy(), pose[:3, :3].copy(), np.deg2rad(joints_deg), width_m)

    def _look(self, seen: Mapping[str, Any], time_s: float) -> dict[str, Frame]:
        return {name: Frame(np.asarray(seen[name]), self._taken_s(name, time_s)) for name in self.cameras}

    def _taken_s(self, camera: str, time_s: float) -> float:
        """When a picture was taken: LeRobot's cameras note it by `time.perf_counter`, others do not say."""
        device = getattr(self._robot, "cameras", {}).get(camera)
        taken_s = getattr(device, "latest_timestamp", None)
        return time_s if taken_s is None else self._clock.now_s() - (time.perf_counter() - taken_s)

    def _gripper_position(self, width_m: float) -> float:
        closed, opened = self._config.gripper_closed, self._config.gripper_open
        return closed + (opened - closed) * width_m / self._config.open_width_m


@dataclass(frozen=True)
class LeRobotCamera:
    """One of the robot's cameras."""

    driver: LeRobotDriver
    name: str

    def newest(self) -> Frame:
        """The picture read last."""
        return self.driver.newest(self.name)


def moved(pose: Pose, command: Command) -> Pose:
    """A pose after a displacement along and about the base's axes."""
    target = np.array(pose, np.float64)
    target[:3, 3] += command.translation_m
    target[:3, :3] = Rotation.from_rotvec(command.rotation_rad).as_matrix() @ target[:3, :3]
    return target
