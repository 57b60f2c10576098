"""From the configuration of `vega-robot` to its parts: policy, loop, and who watches."""

import sys
import termios
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vega_policy.cli.recordings import earlier_recordings, next_recording, rebuild
from vega_policy.cli.robot_arms import connect, default_arm, load_arm
from vega_policy.cli.serve import read_token
from vega_policy.runtime.chunks import RULES
from vega_policy.runtime.clock import Clock, SystemClock
from vega_policy.runtime.loop import ControlLoop, Watcher
from vega_policy.runtime.observing import Observer, policy_thread
from vega_policy.runtime.pace import PaceReport
from vega_policy.runtime.recording import Recorder
from vega_policy.runtime.recordings import refuse_unrecordable
from vega_policy.runtime.robots.base import Robot
from vega_policy.runtime.robots.config import ArmConfig
from vega_policy.runtime.robots.dry_run import DryRun
from vega_policy.runtime.robots.remote import RemoteArm
from vega_policy.runtime.safety import Guard
from vega_policy.runtime.sources import PolicyThread
from vega_policy.runtime.specs import libero_spec
from vega_policy.runtime.standing import Stay
from vega_policy.runtime.supervisor import Supervisor

if TYPE_CHECKING:
    from vega_policy.cli.robot import RobotRunConfig


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
        lines += [f"fault: {fault}" for fault in self.supervisor.faults]
        return "".join(f"{line}\n" for line in lines)

    def keep_recording(self) -> str:
        """Ends the recording and puts all of its folder into the dataset; says what was written."""
        if self.recorder is None or self.dataset is None:
            return ""
        self.recorder.close()
        try:
            return f"{rebuild(self.dataset)}\n"
        except (ValueError, OSError) as error:  # the recordings stay, and can be put together later
            return f"no dataset was written: {error}\n"


def assemble(config: "RobotRunConfig", stack: ExitStack) -> Parts:
    """Connects everything; what has to be closed is left to the stack.

    Raises:
        ValueError: Something asked for does not exist, or policy and robot do not fit.
        OSError: The arm or the policy's server cannot be reached.
        RuntimeError: The simulated arm cannot be built, or the server refuses.
        ImportError: The driver's module is not there.
    """
    arm = load_arm(config.robot.arm or default_arm(config.robot.type))
    if config.record is not None:
        earlier = earlier_recordings(config.record)
        refuse_unrecordable(config.record, arm.rate_hz, arm.cameras, arm.image_size_px, earlier)
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
    source = policy_source(config, observer, arm, stack)
    status = _status_of(robot)
    supervisor = _supervisor(config, clock, status)
    recorder = _recorder(config, observer, arm, task, stack)
    loop = ControlLoop(
        DryRun(robot) if config.dry_run else robot,
        source,
        Guard(arm.limits, 1 / arm.rate_hz),
        clock,
        actions=arm.actions,
        playback=config.playback,
        task=task,
        watchers=[supervisor, *([recorder] if recorder else []), *_live_view(config)],
    )
    return Parts(loop, supervisor, status, _summary(config, arm, task), recorder, config.record)


def _status_of(robot: Robot) -> Callable[[], Mapping[str, Any]]:
    if not isinstance(robot, RemoteArm):
        return dict
    remote = robot
    return lambda: remote.status


def policy_source(
    config: "RobotRunConfig", observer: Observer, arm: ArmConfig, stack: ExitStack
) -> PolicyThread:
    """The policy in a thread of its own, already loaded or connected.

    Raises:
        SpecMismatchError: It does not fit the arm.
    """
    policy = _policy(config, arm, stack)
    return policy_thread(policy, observer, config.seed)


def _policy(config: "RobotRunConfig", arm: ArmConfig, stack: ExitStack) -> Any:
    robot = libero_spec(tuple(arm.cameras), 7, arm.rate_hz, f"vega-robot {config.robot.type}")
    if config.server is not None:
        from vega_policy.runtime.client import PolicyClient, Retry

        token = read_token(config.token_file)
        return stack.enter_context(
            PolicyClient(
                config.server, robot=robot, token=token, timeout_s=config.timeout_s, retry=Retry(attempts=2)
            )
        )
    if config.policy.type == "hold":
        return Stay(arm.actions)
    from vega_policy.cli.policies import MakeLearned, PolicyConfig, policy_factory
    from vega_policy.runtime.serving import spec_of

    # One thread of the two cores that a robot's computer may have: the loop and the arm need the other.
    make = policy_factory(PolicyConfig(path=config.policy.path, device=config.policy.device), num_workers=2)
    assert isinstance(make, MakeLearned)
    acting = make.load().with_whole_chunks()
    spec_of(acting, robot.control_hz, make.path).refuse_mismatch(robot)
    return acting


def _supervisor(
    config: "RobotRunConfig", clock: Clock, status: Callable[[], Mapping[str, Any]]
) -> Supervisor:
    is_attended = not config.yes and not config.dry_run and sys.stdin.isatty()
    return Supervisor(
        clock,
        config.duration_s,
        is_solved=lambda: bool(status().get("is_success")),
        ask=ask_person if is_attended else None,
    )


def ask_person(question: str) -> str:
    """What a person at the terminal answers; what they typed before the question answers something else."""
    termios.tcflush(sys.stdin, termios.TCIFLUSH)
    return input(question).strip()


def _recorder(
    config: "RobotRunConfig", observer: Observer, arm: ArmConfig, task: str, stack: ExitStack
) -> Recorder | None:
    if config.record is None:
        return None

    facts = {
        "task": task,
        "robot": config.robot.type,
        "policy": _policy_name(config),
        "seed": config.seed,
    }
    recorder = Recorder(next_recording(config.record), observer, arm.actions, arm.rate_hz, facts)
    stack.callback(recorder.close)  # also if nobody confirms the first motion
    return recorder


def _live_view(config: "RobotRunConfig") -> list[Watcher]:
    if not config.view:
        return []
    from vega_policy.runtime.live_view import LiveView

    return [LiveView()]


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
