"""Where chunks come from: a policy in this process or elsewhere, never in the control loop's way."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float

from vega_policy.runtime.client import RefusedError
from vega_policy.runtime.robots.base import Reading
from vega_policy.runtime.specs import SpecMismatchError

REFUSALS = (RefusedError, SpecMismatchError)


class ChunkError(RuntimeError):
    """A chunk that was asked for will not come; the loop asks anew."""


class ChunkRefusedError(ChunkError):
    """The policy will not answer, however often it is asked: the loop makes a fault of it."""


@dataclass(frozen=True, eq=False)
class ChunkRequest:
    """What a policy is asked.

    Attributes:
        reading: the observation.
        task: what to do, in words.
        ahead: actions to be played from the observation on, for a policy that continues them; else no rows.
        delay_rows: how many of them will probably have been played when the answer comes.
    """

    reading: Reading
    task: str
    ahead: Float[np.ndarray, "rows 7"]
    delay_rows: int = 0


class ChunkSource(Protocol):
    """Answers one request at a time. No method blocks."""

    def ask(self, request: ChunkRequest) -> None:
        """Begins to compute a chunk; called only when nothing is under way."""
        ...

    def poll(self) -> Float[np.ndarray, "rows 7"] | None:
        """The chunk asked for, once; None while it is under way.

        Raises:
            ChunkError: It will not come; nothing is under way any more.
            ChunkRefusedError: Nor will any other.
        """
        ...

    def reset(self) -> None:
        """Forgets what is under way, so that it never comes, and starts the policy's episode anew."""
        ...


class PolicyThread:
    """A policy that blocks, here or behind a client, in one thread of its own.

    All calls to it are made in that thread, one after the other, so it need not be thread-safe. `reset` runs
    there as well, before the next chunk is computed, and again after a failure, since nobody knows what that
    left behind. A policy that hangs keeps the process from ending, but not the arm from being stopped.

    Args:
        infer: computes a chunk; any exception of its becomes a `ChunkError`, that of a server that refuses or
            has another policy by now a `ChunkRefusedError`.
        reset: starts an episode.
    """

    def __init__(
        self, infer: Callable[[ChunkRequest], Float[np.ndarray, "rows 7"]], reset: Callable[[], None]
    ) -> None:
        self._infer = infer
        self._reset = reset
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="policy")
        self._under_way: Future[Float[np.ndarray, "rows 7"]] | None = None
        self._is_new_episode = True

    def ask(self, request: ChunkRequest) -> None:
        """Starts the computation, as soon as an old one has ended."""
        self._under_way = self._thread.submit(self._compute, request, self._is_new_episode)
        self._is_new_episode = False

    def poll(self) -> Float[np.ndarray, "rows 7"] | None:
        """The finished chunk; see `ChunkSource`."""
        if self._under_way is None or not self._under_way.done():
            return None
        finished, self._under_way = self._under_way, None
        try:
            return finished.result()
        except Exception as error:  # whatever a policy raises: it must not end the loop
            self._is_new_episode = True
            kind = ChunkRefusedError if isinstance(error, REFUSALS) else ChunkError
            raise kind(f"the policy failed: {error!r}") from error

    def reset(self) -> None:
        """Waits for nothing; what is under way ends in its own time, unheard."""
        if self._under_way is not None:
            self._under_way.cancel()
        self._under_way, self._is_new_episode = None, True

    def _compute(self, request: ChunkRequest, is_new_episode: bool) -> Float[np.ndarray, "rows 7"]:
        if is_new_episode:
            self._reset()
        return self._infer(request)
