"""The stage of the drills: a control loop here, a policy server and an arm in other processes.

The arm stays the same process from drill to drill; each begins once it has been brought back to its start.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vega_policy.cli.drill_servers import RATE_HZ, Proxy
from vega_policy.runtime.batching import SessionPolicy
from vega_policy.runtime.chunks import Playback
from vega_policy.runtime.client import PolicyClient, Retry
from vega_policy.runtime.clock import SystemClock
from vega_policy.runtime.drill import ToAndFro, Track
from vega_policy.runtime.loop import ControlLoop
from vega_policy.runtime.observing import Observer, policy_thread
from vega_policy.runtime.recording import Recorder
from vega_policy.runtime.robots.base import Command
from vega_policy.runtime.robots.config import ArmConfig
from vega_policy.runtime.robots.faulty import Faults
from vega_policy.runtime.robots.remote import RemoteArm
from vega_policy.runtime.safety import Guard
from vega_policy.runtime.specs import libero_spec

MIDDLE_M = 0.5  # of the swing, on the base's x axis
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
        is_policy_local: whether the policy is in this process instead of the server's.

    Attributes:
        proxy: the way to the server.
    """

    def __init__(
        self, name: str, scene: Scene, port: int, stack: ExitStack, is_policy_local: bool = False
    ) -> None:
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
        asked = self.policy if is_policy_local else self._client(stack)
        facts = {"task": "swing", "drill": name}
        folder = scene.folder / name.replace(" ", "_")
        self.recorder = Recorder(folder, observer, scene.arm.actions, RATE_HZ, facts)
        self.loop = ControlLoop(
            self.arm,
            policy_thread(asked, observer, seed=0),
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

    def _client(self, stack: ExitStack) -> SessionPolicy:
        retry = Retry(attempts=2, first_wait_s=0.05)
        robot = libero_spec(("image", "image2"), 7, RATE_HZ, "drill")
        uri = f"ws://127.0.0.1:{self.proxy.port}"
        return stack.enter_context(PolicyClient(uri, robot=robot, timeout_s=20.0, retry=retry))

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
