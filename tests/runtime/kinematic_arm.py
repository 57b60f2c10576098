"""An arm without a simulator, which goes a third of the way to its target every period. Also a process.

`python kinematic_arm.py SPEED` serves it as the simulated arm is served.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from vega_policy.runtime.clock import Clock, SystemClock
from vega_policy.runtime.robots.base import ArmState, Command, Frame
from vega_policy.runtime.robots.host import Host
from vega_policy.runtime.robots.panda import Panda
from vega_policy.runtime.robots.remote import RemoteArm

PERIOD_S = 0.05
READY_RAD = np.array([0.0, -0.2, 0.0, -2.4, 0.0, 2.2, 0.785])


@dataclass
class KinematicDriver:
    clock: Clock
    position_m: np.ndarray = field(default_factory=lambda: np.array([0.5, 0.0, 0.3]))
    sag_m: float = 0.0  # what a compliant arm sinks in a period
    side_px: int = 8

    def __post_init__(self) -> None:
        self.target_m = self.position_m.copy()
        self.rotation = np.diag([1.0, -1.0, -1.0])
        self.width_m = 0.08
        self.periods = 0
        self.moves: list[Command] = []
        self._stamp()

    def read(self) -> ArmState:
        return ArmState(self.time_s, self.position_m.copy(), self.rotation, READY_RAD, self.width_m)

    def move(self, command: Command) -> Command:
        self.moves.append(command)
        self.target_m = self.position_m + command.translation_m
        self.rotation = Rotation.from_rotvec(command.rotation_rad).as_matrix() @ self.rotation
        self.width_m = command.gripper_width_m
        return command

    def stop(self) -> None:
        self.target_m = self.position_m.copy()

    def newest(self) -> Frame:
        picture = np.full((self.side_px, self.side_px, 3), self.periods % 256, np.uint8)
        return Frame(picture, self.time_s)

    def advance(self) -> dict[str, Any]:
        self.position_m = self.position_m + (self.target_m - self.position_m) / 3 - [0, 0, self.sag_m]
        self.periods += 1
        self._stamp()
        return {"is_success": False, "periods": self.periods}

    def _stamp(self) -> None:
        self.time_s = self.clock.now_s()


def connect(clock: Clock) -> tuple[KinematicDriver, dict[str, KinematicDriver]]:
    """As `--robot.driver` names it."""
    driver = KinematicDriver(clock)
    return driver, {"front": driver, "wrist": driver}


def host(speed: float) -> Host:
    clock = SystemClock(speed)
    driver = KinematicDriver(clock, side_px=32)
    panda = Panda(driver, {"image": driver, "image2": driver})
    facts = {"task": "pick up the bowl", "base_position_m": np.zeros(3), "speed": speed}
    return Host(panda, clock, facts, driver.advance, PERIOD_S, 0.25, np.random.default_rng(0))


@contextmanager
def arm_process(
    speed: float = 1.0, command: list[str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The arm's process and its address; it ends with the context, whatever state it is in."""
    command = command or [sys.executable, __file__, str(speed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = json.loads(process.stdout.readline())["port"]
            yield process, f"ws://127.0.0.1:{port}"
        finally:
            process.kill()


@contextmanager
def connected(uri: str, speed: float = 1.0) -> Iterator[RemoteArm]:
    arm = RemoteArm(uri, SystemClock(speed))
    try:
        yield arm
    finally:
        arm.close()


if __name__ == "__main__":
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    host(float(sys.argv[1])).run(over, 0, lambda port: print(json.dumps({"port": port}), flush=True))
