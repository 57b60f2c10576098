"""Where chunks come from: a policy in this process or elsewhere, never in the control loop's way."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float

from vega_policy.runtime.robots.base import Reading


class ChunkError(RuntimeError):
    """A chunk that was asked for will not come; the loop asks anew."""


@dataclass(frozen=True, eq=False)
class ChunkRequest:
    """What a policy is asked.

    Attributes:
        reading: the observation.
        task: what to do, in words.
        ahead: actions still to be played from this moment on, for a policy that continues them; else no rows.
    """

    reading: Reading
    task: str
    ahead: Float[np.ndarray, "rows 7"]


class ChunkSource(Protocol):
    """Answers one request at a time. No method blocks."""

    def ask(self, request: ChunkRequest) -> None:
        """Begins to compute a chunk; called only when nothing is under way."""
        ...

    def poll(self) -> Float[np.ndarray, "rows 7"] | None:
        """The chunk asked for, once; None while it is under way.

        Raises:
            ChunkError: It will not come; nothing is under way any more.
        """
        ...

    def reset(self) -> None:
        """Forgets what is under way, so that it never comes, and starts the policy's episode anew."""
        ...


class PolicyThread:
    """A policy in this process, in a thread of its own for every chunk.

    A policy that hangs, hangs its thread only. A chunk asked for before a `reset` is dropped.
    """

    def __init__(
        self, infer: Callable[[ChunkRequest], Float[np.ndarray, "rows 7"]], reset: Callable[[], None]
    ) -> None:
        self._infer = infer
        self._reset = reset
        self._answer: _Answer | None = None

    def ask(self, request: ChunkRequest) -> None:
        """Starts the computation."""
        self._answer = answer = _Answer()
        threading.Thread(target=answer.fill, args=(self._infer, request), daemon=True).start()

    def poll(self) -> Float[np.ndarray, "rows 7"] | None:
        """The finished chunk; see `ChunkSource`."""
        answer = self._answer
        if answer is None or not answer.ready.is_set():
            return None
        self._answer = None
        if answer.error is not None:
            raise ChunkError(f"the policy failed: {answer.error!r}") from answer.error
        return answer.actions

    def reset(self) -> None:
        """Waits for nothing: an old computation ends in its own time, unheard."""
        self._answer = None
        self._reset()


class _Answer:
    def __init__(self) -> None:
        self.ready = threading.Event()
        self.actions: Float[np.ndarray, "rows 7"] | None = None
        self.error: Exception | None = None

    def fill(
        self, infer: Callable[[ChunkRequest], Float[np.ndarray, "rows 7"]], request: ChunkRequest
    ) -> None:
        try:
            self.actions = infer(request)
        except Exception as error:  # whatever a policy raises belongs to the loop, not to the thread
            self.error = error
        self.ready.set()
