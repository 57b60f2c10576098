"""What goes wrong in the drills, and how each is made to."""

import resource
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np

from vega_policy.cli.drill_servers import SPAWN, Servers
from vega_policy.cli.drill_stage import ProcessStage, Scene
from vega_policy.runtime.clock import SystemClock
from vega_policy.runtime.drill import TICKS_BEFORE, Outcome, broken_limits, drill, is_inside, speeds_m_per_s
from vega_policy.runtime.recordings import read_robot_recording
from vega_policy.runtime.robots.remote import RemoteArm

LOOP_KILLED = "control loop killed"


@dataclass(frozen=True)
class Setting:
    """What a drill can make go wrong.

    Attributes:
        stage: with loop, arm, clock and the way to the server.
        servers: of which the first is used.
        stack: for what has to be undone.
    """

    stage: ProcessStage
    servers: Servers
    stack: ExitStack


@dataclass(frozen=True)
class Injection:
    """One thing that goes wrong.

    Attributes:
        inject: makes it go wrong.
        num_servers: that run when the drill begins.
        is_policy_local: whether the policy is in the loop's own process, where it can be spoilt.
    """

    inject: Callable[[Setting], None]
    num_servers: int = 1
    is_policy_local: bool = False


def _arm(**changes: float | bool) -> Injection:
    return Injection(lambda setting: setting.stage.arm.inject(**changes))


def _delay(seconds: float) -> Injection:
    return Injection(lambda setting: setattr(setting.stage.proxy, "delay_s", seconds))


def _spoilt(spoil: Callable[[np.ndarray], np.ndarray]) -> Injection:
    return Injection(lambda setting: setattr(setting.stage.policy, "spoil", spoil), is_policy_local=True)


def _jump(seconds: float) -> Injection:
    return Injection(lambda setting: setattr(setting.stage.clock, "offset_s", seconds))


def _kill_server(setting: Setting) -> None:
    setting.servers.kill_first()


def _restart_server(setting: Setting) -> None:
    """A second server stands by, so that how long a restart takes is not the machine's to say."""
    standby = setting.servers.ports(2)[1]
    setting.servers.kill_first()
    setting.stage.proxy.target = standby


def _fill_disk(setting: Setting) -> None:
    """No file of this process may grow any more: what a full disk does to the recording."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    setting.stack.callback(resource.setrlimit, resource.RLIMIT_FSIZE, before)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))


FAULTS: dict[str, Injection] = {
    "nothing": Injection(lambda _: None),
    "camera freezes": _arm(camera_freeze=True),
    "camera drops every picture": _arm(camera_drop=1.0),
    "camera drops a fifth of the pictures": _arm(camera_drop=0.2),
    "policy server killed": Injection(_kill_server),
    "policy server killed and back at once": Injection(_restart_server, num_servers=2),
    "policy 50 ms away": _delay(0.05),
    "policy 200 ms away": _delay(0.2),
    "policy 1000 ms away": _delay(1.0),
    "policy emits NaN": _spoilt(lambda chunk: chunk * np.nan),
    "policy emits 10x actions": _spoilt(lambda chunk: chunk * 10),
    "clock jumps 5 s ahead": _jump(5.0),
    "clock jumps 5 s back": _jump(-5.0),
    "arm stops answering": _arm(arm_freeze=True),
    "arm answers 300 ms late": _arm(arm_delay_s=0.3),
    "disk full while recording": Injection(_fill_disk),
    LOOP_KILLED: Injection(lambda _: None),  # see `_kill_loop`
}


def run_drill(name: str, scene: Scene, servers: Servers) -> Outcome:
    """One drill, on a stage of its own."""
    injection = FAULTS[name]
    port = servers.ports(injection.num_servers)[0]
    if name == LOOP_KILLED:
        return _kill_loop(scene, port)
    with ExitStack() as stack:
        stage = ProcessStage(name, scene, port, stack, is_policy_local=injection.is_policy_local)
        setting = Setting(stage, servers, stack)
        return drill(name, stage, lambda: injection.inject(setting))


def drive(scene: Scene, port: int, announce: Connection) -> None:
    """A control loop in the calling process, which is to be killed; says when the arm moves."""
    with ExitStack() as stack:
        stage = ProcessStage(LOOP_KILLED, scene, port, stack)
        for index in range(10_000):
            stage.tick()
            if index == TICKS_BEFORE:
                broken = broken_limits(stage.track, stage.limits, stage.period_s)
                announce.send((max(speeds_m_per_s(stage.track)), broken))
            elif announce.poll():  # the parent is gone
                return


def _kill_loop(scene: Scene, port: int) -> Outcome:
    """Kills the loop's process and asks the arm how long it moved on."""
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=drive, args=(scene, port, there))
    process.start()
    top_m_per_s, broken = here.recv()
    process.kill()
    process.join()
    clock = SystemClock(scene.speed)
    arm = RemoteArm(scene.address, clock)
    for _ in range(100):
        clock.sleep_until(clock.now_s() + 0.05)
        arm.read()
        if not is_inside(arm.status["true_position_m"], scene.arm.limits):
            broken = tuple(dict.fromkeys((*broken, "measured place")))
        if arm.status["still_s"] > 1.0:
            break
    status = arm.status
    arm.close()
    num_rows = len(read_robot_recording(scene.folder / LOOP_KILLED.replace(" ", "_")).rows)
    moved_on_s = max(status["silent_s"] - status["still_s"], 0.0)
    still_after_s = moved_on_s if status["still_s"] > 1.0 else None
    reaction = f"holds by itself (silent for too long {status['silences']} times)"
    return Outcome(LOOP_KILLED, reaction, still_after_s, top_m_per_s, broken, num_rows, TICKS_BEFORE + 1)
