"""The arms of `vega-robot`: their descriptions, and how each kind is connected to."""

import importlib
import importlib.resources
import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vega_policy.cli.parsing import parse
from vega_policy.names import nearest_name_error
from vega_policy.runtime.clock import Clock
from vega_policy.runtime.robots.base import Robot
from vega_policy.runtime.robots.config import ArmConfig
from vega_policy.runtime.robots.panda import HoldStep, Panda
from vega_policy.runtime.robots.remote import RemoteArm

if TYPE_CHECKING:
    from vega_policy.cli.robot import RobotRunConfig
    from vega_policy.cli.sim_arm import SimArmConfig

CONFIGS = Path(str(importlib.resources.files("vega_policy.configs"))) / "robot"


def load_arm(name: str) -> ArmConfig:
    """An arm's description by its name in configs/robot, or from a file.

    Raises:
        SystemExit: An unknown key or a bad value, with a message that names it.
        ValueError: There is no such description.
    """
    known = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    path = CONFIGS / f"{name}.yaml" if name in known else Path(name)
    if not path.is_file():
        raise ValueError(f"expected --robot.arm to be a file or one of {', '.join(known)}, got {name}")
    return parse(ArmConfig, [f"--config_path={path}"], prog="vega-robot")


def default_arm(robot_type: str) -> str:
    """The description that goes with a type of robot.

    Raises:
        ValueError: Each robot of that type is another.
    """
    if robot_type == "lerobot":
        raise ValueError("expected --robot.arm=FILE.yaml with the limits of your arm, see docs/deployment.md")
    return robot_type


def connect(
    config: "RobotRunConfig", clock: Clock, arm: ArmConfig, stack: ExitStack
) -> tuple[Robot, Mapping[str, Any]]:
    """The robot, and what is known of it besides.

    Raises:
        ValueError: There is no such driver, or the arm's clock has another speed.
        OSError: The arm cannot be reached.
        RuntimeError: The simulated arm cannot be built.
        ImportError: The driver's module is not there.
    """
    choice, hold_step = config.robot, HoldStep.within(arm.limits, 1 / arm.rate_hz)
    if choice.address is not None or choice.type == "sim_arm":
        address = choice.address or start_sim_arm(config.sim, stack)
        remote = RemoteArm(address, clock)
        stack.callback(remote.close)
        if (speed := remote.facts.get("speed", 1.0)) != config.sim.speed:
            raise ValueError(
                f"expected --sim.speed={speed:g}, the speed of the arm's clock, got {config.sim.speed:g}"
            )
        return remote, remote.facts
    if choice.type == "panda":
        driver, cameras = load_object(str(choice.driver))(clock)
        return Panda(driver, cameras, hold_step), {}
    from vega_policy.runtime.robots.lerobot_arm import open_lerobot_arm

    return open_lerobot_arm(Path(str(choice.lerobot)), clock, arm.rate_hz, hold_step, stack), {}


def start_sim_arm(sim: "SimArmConfig", stack: ExitStack) -> str:
    """Starts the simulated arm as a child that ends with this process; returns its address.

    Raises:
        RuntimeError: It did not start; what it said is on standard error.
    """
    options = {field.name: getattr(sim, field.name) for field in fields(sim)}
    command = [sys.executable, "-m", "vega_policy.cli.sim_arm", "--with_parent=true"]
    command += [f"--{name}={value}" for name, value in options.items()]
    # In a session of its own, so that Ctrl-C reaches the loop alone, which then stops the arm.
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    stack.callback(_end, process)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(
            f"expected the simulated arm to start, its process ended with code {process.wait()}; "
            "its own last words are above, and vega-doctor says what is missing on this machine"
        )
    return f"ws://127.0.0.1:{json.loads(line)['port']}"


def _end(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def load_object(name: str) -> Any:
    """What `module:attribute` names.

    Raises:
        ValueError: It is not of that form, or the module lacks the attribute.
        ImportError: There is no such module.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(f"expected --robot.driver=module:function, got {name}")
    found = importlib.import_module(module)
    if not hasattr(found, attribute):
        public = [name for name in vars(found) if not name.startswith("_")]
        raise nearest_name_error(f"function of {module}", attribute, public)
    return getattr(found, attribute)
