"""The stage of the drills: a control loop here, a policy server and an arm in other processes.

The arm stays the same process from drill to drill; each begins once it has been brought back to its start.
"""

import asyncio
import multiprocessing
import resource
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from vega_policy.runtime.batching import OneByOne
from vega_policy.runtime.chunks import Playback
from vega_policy.runtime.client import PolicyClient, Retry
from vega_policy.runtime.clock import SystemClock
from vega_policy.runtime.drill import TICKS_BEFORE, Outcome, ToAndFro, Track, drill, speeds_m_per_s
from vega_policy.runtime.loop import ControlLoop
from vega_policy.runtime.observing import Observer
from vega_policy.runtime.recording import Recorder
from vega_policy.runtime.recordings import read_robot_recording
from vega_policy.runtime.robots.base import Command
from vega_policy.runtime.robots.config import ArmConfig
from vega_policy.runtime.robots.faulty import Faults
from vega_policy.runtime.robots.remote import RemoteArm
from vega_policy.runtime.safety import Guard
from vega_policy.runtime.server import Listen, PolicyServer
from vega_policy.runtime.sources import ChunkRequest, PolicyThread
from vega_policy.runtime.specs import libero_spec

SPAWN = multiprocessing.get_context("spawn")
RATE_HZ = 20.0
MIDDLE_M = 0.5  # of the swing, on the base's x axis
LOOP_KILLED = "control loop killed"
START_M = np.array([0.45, 0.0, 0.26])


@dataclass(frozen=True)
class Scene:
    """What all drills share.

    Attributes:
        address: of the arm.
        arm: its limits.
        speed: of all clocks.
        folder: for recordings.
    """

    address: str
    arm: ArmConfig
    speed: float
    folder: Path


def base_x_m(scene: Scene) -> float:
    """Where the arm's base stands on the x axis of the policy's world."""
    arm = RemoteArm(scene.address, SystemClock(scene.speed))
    arm.close()
    return float(arm.facts["base_position_m"][0])


class JumpingClock(SystemClock):
    """A clock that can be set."""

    def __init__(self, speed: float) -> None:
        super().__init__(speed)
        self.offset_s = 0.0

    def now_s(self) -> float:
        """The machine's clock and the jumps."""
        return super().now_s() + self.offset_s


class ProcessStage:
    """A control loop between an arm's process and a policy server's.

    Args:
        name: of the drill.
        scene: where.
        port: of the policy's server.
        stack: on which everything is left that has to be closed.

    Attributes:
        proxy: the way to the server.
    """

    def __init__(self, name: str, scene: Scene, port: int, stack: ExitStack) -> None:
        self.limits, self.period_s, self.scene = scene.arm.limits, 1 / RATE_HZ, scene
        self.clock = JumpingClock(scene.speed)
        self.arm = RemoteArm(scene.address, self.clock)
        stack.callback(self.arm.close)
        base_m = [float(value) for value in self.arm.facts["base_position_m"]]
        observer = Observer(scene.arm.cameras, (base_m[0], base_m[1], base_m[2]), scene.arm.image_size_px)
        self.policy = ToAndFro(MIDDLE_M + base_m[0])
        self.proxy = Proxy(port, scene.speed)
        stack.callback(self.proxy.close)
        self._go_to_start()
        self.track = Track(lambda: (self.arm.status["true_time_s"], self.arm.status["true_position_m"]))
        facts = {"task": "swing", "drill": name}
        folder = scene.folder / name.replace(" ", "_")
        self.recorder = Recorder(folder, observer, scene.arm.actions, RATE_HZ, facts)
        self.loop = ControlLoop(
            self.arm,
            self._source(observer, local=name in LOCAL, stack=stack),
            Guard(scene.arm.limits, self.period_s),
            self.clock,
            actions=scene.arm.actions,
            playback=Playback(replan_rows=4),
            task="swing",
            watchers=[self.track, self.recorder],
        )
        self._due_s = self.clock.now_s()

    def tick(self) -> None:
        """One control period; a clock that was set does not make up for what it skipped."""
        now_s = self.clock.now_s()
        self._due_s = self._due_s + self.period_s
        if not now_s <= self._due_s <= now_s + self.period_s:
            self._due_s = now_s + self.period_s * (self._due_s > now_s)
        self.clock.sleep_until(self._due_s)
        self.loop.tick()

    def _source(self, observer: Observer, local: bool, stack: ExitStack) -> PolicyThread:
        policy: Any = self.policy
        if not local:
            retry = Retry(attempts=2, first_wait_s=0.05)
            robot = libero_spec(("image", "image2"), 7, RATE_HZ, "drill")
            uri = f"ws://127.0.0.1:{self.proxy.port}"
            policy = stack.enter_context(PolicyClient(uri, robot=robot, timeout_s=20.0, retry=retry))

        def infer(request: ChunkRequest) -> Any:
            return policy.act(observer.asked(request))

        return PolicyThread(infer, lambda: policy.reset(0))

    def _go_to_start(self) -> None:
        """Undoes all faults and brings the arm back, slowly, outside of any loop."""
        self.arm.inject(**vars(Faults()))
        clock = SystemClock(self.scene.speed)
        for _ in range(200):
            clock.sleep_until(clock.now_s() + self.period_s)
            self.arm.read()
            way_m = START_M - self.arm.status["true_position_m"]
            if np.linalg.norm(way_m) < 0.01 and self.arm.status["still_s"] > 0.2:
                break
            step_m = way_m * min(1.0, 0.02 / float(np.linalg.norm(way_m)))
            self.arm.command(Command(step_m, np.zeros(3), self.scene.arm.actions.open_width_m))
        self.arm.hold()


class Proxy:
    """A way to a server that can be slow, and that can lead to another server.

    Args:
        target: port of the server.
        speed: of the drill's clocks, for delays.
    """

    def __init__(self, target: int, speed: float) -> None:
        self.target, self.delay_s = target, 0.0
        self._speed = speed
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Takes no further connection."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    client.close()
                    continue
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        """Half of the delay each way; what comes meanwhile waits in the socket, as behind a slow link."""
        with suppress(OSError):
            while data := source.recv(1 << 20):
                time.sleep(self.delay_s / 2 / self._speed)
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Servers:
    """Policy servers in processes of their own, each used until a drill kills it."""

    def __init__(self, middle_m: float) -> None:
        self._middle_m = middle_m
        self._running: list[tuple[BaseProcess, int, Connection]] = []

    def ports(self, count: int) -> list[int]:
        """The ports of as many servers as are needed, which are started if they do not run yet."""
        while len(self._running) < count:
            here, there = SPAWN.Pipe()
            process = SPAWN.Process(target=serve_to_and_fro, args=(self._middle_m, there), daemon=True)
            process.start()
            self._running.append((process, here.recv(), here))
        return [port for _, port, _ in self._running[:count]]

    def kill_first(self) -> None:
        """Kills the server whose port is the first."""
        self._running.pop(0)[0].kill()


def serve_to_and_fro(middle_m: float, announce: Connection) -> None:
    """Runs a policy server in the calling process, for as long as its parent lives."""
    spec = libero_spec(("image", "image2"), 7, RATE_HZ, "to and fro")
    server = PolicyServer(OneByOne(lambda: ToAndFro(middle_m)), spec, Listen(port=0))

    async def run() -> None:
        async with server.listening() as port:
            announce.send(port)
            await asyncio.to_thread(announce.poll, None)  # until the other end is closed

    asyncio.run(run())


def drive(scene: Scene, port: int, announce: Connection) -> None:
    """A control loop in the calling process, which is to be killed; says when the arm moves."""
    with ExitStack() as stack:
        stage = ProcessStage(LOOP_KILLED, scene, port, stack)
        for index in range(10_000):
            stage.tick()
            if index == TICKS_BEFORE:
                announce.send(max(speeds_m_per_s(stage.track)))
            elif announce.poll():  # the parent is gone
                return


def _kill_loop(scene: Scene, port: int) -> Outcome:
    """Kills the loop's process and asks the arm how long it moved on."""
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=drive, args=(scene, port, there))
    process.start()
    top_m_per_s = here.recv()
    process.kill()
    process.join()
    clock = SystemClock(scene.speed)
    arm = RemoteArm(scene.address, clock)
    for _ in range(100):
        clock.sleep_until(clock.now_s() + 0.05)
        arm.read()
        if arm.status["still_s"] > 1.0:
            break
    status = arm.status
    arm.close()
    num_rows = len(read_robot_recording(scene.folder / LOOP_KILLED.replace(" ", "_")).rows)
    is_within = top_m_per_s <= scene.arm.limits.max_measured_speed_m_per_s
    moved_on_s = max(status["silent_s"] - status["still_s"], 0.0)
    still_after_s = moved_on_s if status["still_s"] > 1.0 else None
    reaction = f"holds by itself (silent for too long {status['silences']} times)"
    return Outcome(LOOP_KILLED, reaction, still_after_s, top_m_per_s, is_within, num_rows, TICKS_BEFORE + 1)


LOCAL = ("policy emits NaN", "policy emits 10x actions")
Injector = Callable[[ProcessStage, Servers, ExitStack], Callable[[], None]]


def _faults(**changes: float | bool) -> Injector:
    return lambda stage, *_: lambda: stage.arm.inject(**changes)


def _delay(seconds: float) -> Injector:
    return lambda stage, *_: lambda: setattr(stage.proxy, "delay_s", seconds)


def _spoilt(spoil: Callable[[np.ndarray], np.ndarray]) -> Injector:
    return lambda stage, *_: lambda: setattr(stage.policy, "spoil", spoil)


def _jump(seconds: float) -> Injector:
    return lambda stage, *_: lambda: setattr(stage.clock, "offset_s", seconds)


def _kill_server(_: ProcessStage, servers: Servers, __: ExitStack) -> Callable[[], None]:
    return servers.kill_first


def _restart_server(stage: ProcessStage, servers: Servers, _: ExitStack) -> Callable[[], None]:
    """A second server stands by, so that how long a restart takes is not the machine's to say."""
    standby = servers.ports(2)[1]

    def switch() -> None:
        servers.kill_first()
        stage.proxy.target = standby

    return switch


def _fill_disk(_: ProcessStage, __: Servers, stack: ExitStack) -> Callable[[], None]:
    """No file of this process may grow any more: what a full disk does to the recording."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    stack.callback(resource.setrlimit, resource.RLIMIT_FSIZE, before)
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))


FAULTS: dict[str, Injector] = {
    "nothing": _faults(),
    "camera freezes": _faults(camera_freeze=True),
    "camera drops every picture": _faults(camera_drop=1.0),
    "camera drops a fifth of the pictures": _faults(camera_drop=0.2),
    "policy server killed": _kill_server,
    "policy server killed and back at once": _restart_server,
    "policy 50 ms away": _delay(0.05),
    "policy 200 ms away": _delay(0.2),
    "policy 1000 ms away": _delay(1.0),
    "policy emits NaN": _spoilt(lambda chunk: chunk * np.nan),
    "policy emits 10x actions": _spoilt(lambda chunk: chunk * 10),
    "clock jumps 5 s ahead": _jump(5.0),
    "clock jumps 5 s back": _jump(-5.0),
    "arm stops answering": _faults(arm_freeze=True),
    "arm answers 300 ms late": _faults(arm_delay_s=0.3),
    "disk full while recording": _fill_disk,
    LOOP_KILLED: _faults(),  # see `_kill_loop`
}


def run_drill(name: str, scene: Scene, servers: Servers) -> Outcome:
    """One drill, on a stage of its own."""
    (port,) = servers.ports(1)
    if name == LOOP_KILLED:
        return _kill_loop(scene, port)
    with ExitStack() as stack:
        stage = ProcessStage(name, scene, port, stack)
        return drill(name, stage, FAULTS[name](stage, servers, stack))
