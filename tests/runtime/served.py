"""A server on a real loopback socket, in a thread of its own, with a policy that does as it is told."""

import asyncio
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from vega_policy.runtime.batching import BatchedPolicy, Chunk, OneByOne
from vega_policy.runtime.server import Listen, PolicyServer
from vega_policy.runtime.specs import Field, PolicySpec

SPEC = PolicySpec(
    {"state/x": Field("float", (2,)), "image": Field("uint8", (None, None, 3)), "task": Field("text")},
    Field("float", (None, 7)),
    control_hz=20.0,
    revision="r1",
)


def observation(task: str = "", x: float = 0.0, side_px: int = 4) -> dict[str, Any]:
    return {
        "state": {"x": np.full(2, float(x))},
        "image": np.zeros((side_px, side_px, 3), np.uint8),
        "task": task,
        "unread": np.zeros(3, object),
    }


class Obedient:
    """Its actions are seed, count of decisions, and the state's x; the task says how to go wrong."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.is_asked = threading.Event()
        self.tasks: list[str] = []

    def session(self) -> "ObedientSession":
        return ObedientSession(self)

    def batched(self) -> BatchedPolicy:
        return OneByOne(self.session)


class ObedientSession:
    def __init__(self, parent: Obedient) -> None:
        self.parent = parent

    def reset(self, seed: int) -> None:
        self.seed, self.count = seed, 0

    def act(self, observation: Mapping[str, Any]) -> Chunk:
        self.parent.is_asked.set()
        self.parent.tasks.append(observation["task"])
        assert self.parent.may_answer.wait(60)
        self.count += 1
        match observation["task"]:
            case "raise":
                raise ValueError("the policy is unwell")
            case "nan":
                return np.full((2, 7), np.nan)
            case "long":
                return np.zeros((8000, 7))
        chunk = np.zeros((2, 7))
        chunk[:, :3] = self.seed, self.count, observation["state"]["x"][0]
        return chunk


@contextmanager
def served(policy: Obedient | None = None, **listen: Any) -> Iterator[int]:
    """Serves an obedient policy inside the context, which gives the port."""
    with serving((policy or Obedient()).batched(), SPEC, **listen) as port:
        yield port


@contextmanager
def serving(policy: BatchedPolicy, spec: PolicySpec, **listen: Any) -> Iterator[int]:
    """Serves any policy inside the context, which gives the port."""
    running: queue.Queue[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()
    server = PolicyServer(policy, spec, Listen(**{"port": 0, **listen}))

    async def run() -> None:
        stop = asyncio.Event()
        async with server.listening() as port:
            running.put((port, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    port, loop, stop = running.get(timeout=60)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
