"""The process of the simulated arm: a MuJoCo Panda at LIBERO's table, behind a socket, in real time.

`vega-robot --robot.type=sim_arm` starts it as a child. Here the room that knows LIBERO meets the one that
knows robots: the simulation is a driver like that of a real Panda, under the same adapter, the same
dead-man's switch and the same server.

The first line on standard output is JSON: `{"port": ...}` once the arm can be reached.
"""

import json
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vega_policy.cli.parsing import check_port, parse

if TYPE_CHECKING:
    from vega_policy.envs.libero.arm import LiberoArm
    from vega_policy.runtime.clock import Clock
    from vega_policy.runtime.robots.base import ArmState, Command, Frame


@dataclass
class SimArmConfig:
    """A simulated Panda at LIBERO's table."""

    suite: str = "libero_spatial"  # whose table and objects
    task_id: int = 0  # position of the task in the suite
    trial: int = 0  # init state of the objects
    assets: str = "auto"  # auto, official, standin or a folder
    image_size_px: int = 256  # height and width of both cameras
    camera_periods: int = 2  # each camera takes a picture every so many periods of 50 ms, at least 2
    speed: float = 1.0  # simulated seconds in a second; below 1 where the machine is too slow for the physics
    deadman_s: float = 0.25  # the arm holds by itself after this long without an order
    seed: int = 0  # of the scene and of injected drops

    def __post_init__(self) -> None:
        least = {"task_id": 0, "trial": 0, "image_size_px": 16, "camera_periods": 2, "seed": 0}
        for name in least:
            if getattr(self, name) < least[name]:
                raise ValueError(f"expected {name} >= {least[name]}, got {getattr(self, name)}")
        for name in ("speed", "deadman_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"expected {name} > 0, got {getattr(self, name)}")


@dataclass
class SimArmProcessConfig(SimArmConfig):
    """A simulated Panda at LIBERO's table, for control loops of this machine."""

    port: int = 0  # to listen on; 0 takes any free port
    with_parent: bool = False  # end when standard input ends

    def __post_init__(self) -> None:
        super().__post_init__()
        check_port(self.port)


class SimDriver:
    """The simulation as a Panda's driver, with its cameras.

    Args:
        arm: already reset; the thread that built it calls `advance`.
        clock: that of the arm's server.
    """

    def __init__(self, arm: "LiberoArm", clock: "Clock") -> None:
        self._arm, self._clock = arm, clock
        self._time_s = clock.now_s()
        self._frames = {name: self._frame(name) for name in arm.frames}
        self._state = self._measure()

    def read(self) -> "ArmState":
        """As of the end of the last period."""
        return self._state

    def move(self, command: "Command") -> "Command":
        """Has the next period begin a displacement."""
        self._arm.move(command.translation_m, command.rotation_rad, command.gripper_width_m)
        return command

    def stop(self) -> None:
        """Has the next period begin with all joints at rest."""
        self._arm.brake()

    def newest(self, camera: str) -> "Frame":
        """The last picture taken."""
        return self._frames[camera]

    def advance(self) -> dict[str, Any]:
        """Lets a period pass in the simulation and stamps what is measured then; says how it stands."""
        drawn = self._arm.advance()
        self._time_s = self._clock.now_s()
        self._state = self._measure()
        for name in drawn:
            self._frames[name] = self._frame(name)
        return {
            "is_success": self._arm.is_success,
            "periods": self._arm.periods,
        }

    def _measure(self) -> "ArmState":
        from vega_policy.runtime.robots.base import ArmState

        seen = self._arm.measured
        return ArmState(
            self._time_s, seen.position_m, seen.rotation, seen.joints_rad, max(seen.gripper_width_m, 0.0)
        )

    def _frame(self, camera: str) -> "Frame":
        from vega_policy.runtime.robots.base import Frame

        return Frame(self._arm.frames[camera], self._time_s)


@dataclass(frozen=True)
class SimCamera:
    """One of the driver's cameras."""

    driver: SimDriver
    name: str

    def newest(self) -> "Frame":
        """The last picture taken."""
        return self.driver.newest(self.name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the process; returns the exit code."""
    config = parse(SimArmProcessConfig, argv, prog="sim_arm")
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    if config.with_parent:
        threading.Thread(target=_end_with_input, args=(over,), daemon=True).start()
    try:
        serve(config, over)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"sim_arm: error: {error}", file=sys.stderr)
        return 2
    return 0


def _end_with_input(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


def serve(config: SimArmProcessConfig, over: threading.Event) -> None:
    """Build the arm and let time pass until it is over.

    Raises:
        ValueError: There is no such task.
        OSError: Assets are missing, or the port is taken.
        RuntimeError: Pictures cannot be drawn on this machine.
    """
    import numpy as np

    from vega_policy.envs.libero.arm import PERIOD_S, LiberoArm
    from vega_policy.envs.libero.env import LiberoEnv
    from vega_policy.runtime.clock import SystemClock
    from vega_policy.runtime.robots.host import Host
    from vega_policy.runtime.robots.panda import Panda

    env = LiberoEnv(config.suite, config.task_id, assets=config.assets, image_size_px=config.image_size_px)
    arm = LiberoArm(env, trial=config.trial, seed=config.seed, camera_periods=config.camera_periods)
    clock = SystemClock(config.speed)
    driver = SimDriver(arm, clock)
    host = Host(
        Panda(driver, {name: SimCamera(driver, name) for name in arm.frames}),
        clock,
        {"task": env.task_description, "base_position_m": arm.base_position_m, "speed": config.speed},
        driver.advance,
        PERIOD_S,
        config.deadman_s,
        np.random.default_rng(config.seed),
    )
    host.run(over, config.port, lambda port: print(json.dumps({"port": port}), flush=True))
    arm.close()


if __name__ == "__main__":
    sys.exit(main())
