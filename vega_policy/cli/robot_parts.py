"""From the configuration of `vega-robot` to its parts: arm, policy, loop, and who watches."""

import importlib
import importlib.resources
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vega_policy.cli.parsing import parse
from vega_policy.runtime.chunks import RULES
from vega_policy.runtime.clock import Clock, SystemClock
from vega_policy.runtime.loop import ControlLoop, Watcher
from vega_policy.runtime.observing import Observer
from vega_policy.runtime.pace import PaceReport
from vega_policy.runtime.recording import Recorder
from vega_policy.runtime.robots.base import Robot
from vega_policy.runtime.robots.config import ArmConfig
from vega_policy.runtime.robots.dry_run import DryRun
from vega_policy.runtime.robots.panda import HoldStep, Panda
from vega_policy.runtime.robots.remote import RemoteArm
from vega_policy.runtime.safety import Guard
from vega_policy.runtime.sources import ChunkRequest, PolicyThread
from vega_policy.runtime.specs import libero_spec
from vega_policy.runtime.supervisor import Supervisor

if TYPE_CHECKING:
    from vega_policy.cli.robot import RobotRunConfig
    from vega_policy.cli.sim_arm import SimArmConfig

CONFIGS = Path(str(importlib.resources.files("vega_policy.configs"))) / "robot"


@dataclass(frozen=True)
class Parts:
    """A run that is ready to begin.

    Attributes:
        loop: not yet running.
        supervisor: says when it is over.
        status: what the arm's process last said, for arms in another process.
        summary: what a person confirms.
        recorder: if the run is recorded.
        dataset: where the recordings end up.
    """

    loop: ControlLoop
    supervisor: Supervisor
    status: Callable[[], Mapping[str, Any]]
    summary: str
    recorder: Recorder | None
    dataset: Path | None

    def report(self) -> str:
        """How the run went."""
        lines = [f"ended: {self.supervisor.ending or 'interrupted'}", _pace_line(self.loop.pace())]
        status = self.status()
        if "is_success" in status:
            lines.append(f"task solved: {'yes' if status['is_success'] else 'no'}")
        if "late_periods" in status:
            lines.append(f"arm: {status.get('periods', '?')} periods, {status['late_periods']} of them late")
        counts = ", ".join(f"{name} {count}" for name, count in self.supervisor.interventions.most_common())
        lines.append(f"guard: {counts or 'no interventions'}; held in {self.supervisor.num_held} ticks")
        return "\n".join([*lines, *(f"fault: {fault}" for fault in self.supervisor.faults)])

    def keep_recording(self) -> None:
        """Ends the recording and puts all of its folder into the dataset."""
        if self.recorder is None or self.dataset is None:
            return
        self.recorder.close()
        from vega_policy.cli.recordings import rebuild

        try:
            print(rebuild(self.dataset))
        except (ValueError, OSError) as error:  # the recordings stay, and can be put together later
            print(f"vega-robot: no dataset was written: {error}", file=sys.stderr)


def assemble(config: "RobotRunConfig", stack: ExitStack) -> Parts:
    """Connects everything; what has to be closed is left to the stack.

    Raises:
        ValueError: Something asked for does not exist, or policy and robot do not fit.
        OSError: The arm or the policy's server cannot be reached.
        RuntimeError: The simulated arm cannot be built, or the server refuses.
        ImportError: The driver's module is not there.
    """
    arm = load_arm(config.robot.arm or _default_arm(config.robot.type))
    clock = SystemClock(config.sim.speed)
    robot, facts = connect(config, clock, arm, stack)
    task = config.task or facts.get("task")
    if not task:
        raise ValueError('expected --task="what to do", this robot has no task of its own')
    if "base_position_m" in facts:
        x_m, y_m, z_m = (float(value) for value in facts["base_position_m"])
        arm = replace(arm, base_position_m=(x_m, y_m, z_m))
    observer = Observer(arm.cameras, arm.base_position_m, arm.image_size_px)
    observer.observation(robot.read(), task)  # a missing camera is found before anything moves
    source = policy_source(config, observer, arm.rate_hz, stack)
    status = _status_of(robot)
    supervisor = Supervisor(
        clock,
        config.duration_s,
        is_solved=lambda: bool(status().get("is_success")),
        ask=None if config.yes or config.dry_run or not sys.stdin.isatty() else input,
    )
    facts_kept = {
        "task": task,
        "robot": config.robot.type,
        "policy": _policy_name(config),
        "seed": config.seed,
    }
    recorder = _recorder(config, observer, arm, facts_kept)
    if recorder is not None:
        stack.callback(recorder.close)  # also if nobody confirms the first motion
    watchers: list[Watcher] = [supervisor, *([recorder] if recorder else [])]
    if config.view:
        from vega_policy.runtime.live_view import LiveView

        watchers.append(LiveView())
    loop = ControlLoop(
        DryRun(robot) if config.dry_run else robot,
        source,
        Guard(arm.limits, 1 / arm.rate_hz),
        clock,
        actions=arm.actions,
        playback=config.playback,
        task=task,
        watchers=watchers,
    )
    return Parts(loop, supervisor, status, _summary(config, arm, task), recorder, config.record)


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


def _default_arm(robot_type: str) -> str:
    if robot_type == "lerobot":
        raise ValueError("expected --robot.arm=FILE.yaml with the limits of your arm, see docs/deployment.md")
    return robot_type


def connect(
    config: "RobotRunConfig", clock: Clock, arm: ArmConfig, stack: ExitStack
) -> tuple[Robot, Mapping[str, Any]]:
    """The robot, and what is known of it besides."""
    choice, hold_step = config.robot, HoldStep.within(arm.limits, 1 / arm.rate_hz)
    if choice.address is not None or choice.type == "sim_arm":
        address = choice.address or start_sim_arm(config.sim, stack)
        remote = RemoteArm(address, clock)
        stack.callback(remote.close)
        return remote, remote.facts
    if choice.type == "panda":
        driver, cameras = load_object(str(choice.driver))(clock)
        return Panda(driver, cameras, hold_step), {}
    from vega_policy.runtime.robots.lerobot_arm import open_lerobot_arm

    return open_lerobot_arm(Path(str(choice.lerobot)), clock, arm.rate_hz, hold_step, stack), {}


def _status_of(robot: Robot) -> Callable[[], Mapping[str, Any]]:
    if not isinstance(robot, RemoteArm):
        return dict
    remote = robot
    return lambda: remote.status


def start_sim_arm(sim: "SimArmConfig", stack: ExitStack) -> str:
    """Starts the simulated arm as a child that ends with this process; returns its address.

    Raises:
        RuntimeError: It did not start; what it said is on standard error.
    """
    options = {field.name: getattr(sim, field.name) for field in fields(sim)}
    command = [sys.executable, "-m", "vega_policy.cli.sim_arm", "--with_parent=true"]
    command += [f"--{name}={value}" for name, value in options.items()]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    stack.callback(_end, process)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("the simulated arm did not start")
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
        raise ValueError(f"expected {attribute} in {module}, it has {', '.join(dir(found))}")
    return getattr(found, attribute)


def policy_source(
    config: "RobotRunConfig", observer: Observer, rate_hz: float, stack: ExitStack
) -> PolicyThread:
    """The policy in a thread of its own, already loaded or connected."""
    policy = _policy(config, rate_hz, stack)

    def infer(request: ChunkRequest) -> Any:
        return policy.act(observer.asked(request))

    return PolicyThread(infer, lambda: policy.reset(config.seed))


def _policy(config: "RobotRunConfig", rate_hz: float, stack: ExitStack) -> Any:
    if config.server is not None:
        from vega_policy.runtime.client import PolicyClient, Retry

        token = config.token_file.read_text(encoding="utf-8").strip() if config.token_file else None
        robot = libero_spec(("image", "image2"), 7, rate_hz, f"vega-robot {config.robot.type}")
        return stack.enter_context(
            PolicyClient(
                config.server, robot=robot, token=token, timeout_s=config.timeout_s, retry=Retry(attempts=2)
            )
        )
    if config.policy.type == "hold":
        from vega_policy.rollouts.baselines import HoldPolicy

        return HoldPolicy(7)
    from vega_policy.cli.policies import MakeLearned, PolicyConfig, policy_factory

    # One thread of the two cores that a robot's computer may have: the loop and the arm need the other.
    make = policy_factory(PolicyConfig(path=config.policy.path, device=config.policy.device), num_workers=2)
    assert isinstance(make, MakeLearned)
    return make.load()


def _recorder(
    config: "RobotRunConfig", observer: Observer, arm: ArmConfig, facts: Mapping[str, Any]
) -> Recorder | None:
    if config.record is None:
        return None
    from vega_policy.cli.recordings import next_recording

    return Recorder(next_recording(config.record), observer, arm.actions, arm.rate_hz, facts)


def _policy_name(config: "RobotRunConfig") -> str:
    return str(config.server or config.policy.path or config.policy.type)


def _summary(config: "RobotRunConfig", arm: ArmConfig, task: str) -> str:
    limits = arm.limits
    return "\n".join(
        [
            f"robot      {config.robot.type} at {arm.rate_hz:g} Hz",
            f"policy     {_policy_name(config)}, {config.playback.rule} (of {', '.join(RULES)})",
            f"task       {task}",
            f"workspace  {list(limits.workspace_low_m)} to {list(limits.workspace_high_m)} m",
            f"speed      at most {limits.max_speed_m_per_s} m/s",
            f"duration   {config.duration_s:g} s",
        ]
    )


def _pace_line(pace: PaceReport) -> str:
    error_percent, jitter_ms = pace.rate_error * 100, pace.worst_jitter_s * 1000
    return f"loop: {pace.num_ticks} ticks, rate error {error_percent:+.2f}%, worst jitter {jitter_ms:.1f} ms"
