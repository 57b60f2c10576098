"""Requests of several robots, answered together by one policy in one worker thread.

While a batch is computed the next one gathers. A batch never waits for more requests than there are
sessions, so a lone robot does not wait at all. If a batch fails, each of its requests is tried alone: only
the one at fault gets the error.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Chunk = NDArray[np.floating]


class SessionPolicy(Protocol):
    """The harness's policy, as one session sees it."""

    def reset(self, seed: int) -> None:
        """Forget the previous episode."""

    def act(self, observation: Mapping[str, Any]) -> Chunk:
        """Return a chunk of actions, shape (rows, action size)."""
        ...


class BatchedPolicy(Protocol):
    """A policy that serves several sessions; called by one thread at a time.

    `max_batch` is the largest batch it takes. A policy with more than 1 must not remember a failed `infer`:
    its requests come again, one by one.
    """

    @property
    def max_batch(self) -> int:
        """The most observations of one `infer`."""
        ...

    def reset(self, session: int, seed: int) -> None:
        """Start an episode of a session."""

    def forget(self, session: int) -> None:
        """Drop what belongs to a session that has ended."""

    def infer(self, sessions: Sequence[int], observations: Sequence[Mapping[str, Any]]) -> Sequence[Chunk]:
        """Return one chunk of shape (rows, action size) per observation; no session comes twice."""
        ...


class OneByOne:
    """Any policy, built anew for each session and asked alone, so sessions share no memory."""

    max_batch = 1

    def __init__(self, make_policy: Callable[[], SessionPolicy]) -> None:
        self._make_policy = make_policy
        self._policies: dict[int, SessionPolicy] = {}

    def reset(self, session: int, seed: int) -> None:
        """Start an episode; the first one of a session builds its policy."""
        if session not in self._policies:
            self._policies[session] = self._make_policy()
        self._policies[session].reset(seed)

    def forget(self, session: int) -> None:
        """Drop the session's policy."""
        self._policies.pop(session, None)

    def infer(self, sessions: Sequence[int], observations: Sequence[Mapping[str, Any]]) -> list[Chunk]:
        """Ask each session's policy."""
        return [self._policies[session].act(o) for session, o in zip(sessions, observations, strict=True)]


@dataclass(frozen=True)
class Answer:
    """A chunk, and how long its request waited for its turn and was computed."""

    chunk: Chunk
    wait_s: float
    inference_s: float


@dataclass(frozen=True)
class _Request:
    session: int
    observation: Mapping[str, Any]
    answer: asyncio.Future[Answer]
    queued_s: float = field(default_factory=time.perf_counter)

    def resolve(self, outcome: Answer | Exception) -> None:
        if self.answer.done():  # cancelled with its connection
            return
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


class Batcher:
    """Runs a policy beside the event loop; an asynchronous context."""

    def __init__(self, policy: BatchedPolicy, max_wait_s: float) -> None:
        """Args: the policy, and how long a request waits for others to join it, in seconds."""
        self._policy = policy
        self._max_wait_s = max_wait_s
        self._sessions: set[int] = set()
        self._names = itertools.count()
        self._requests: asyncio.Queue[_Request] = asyncio.Queue()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="policy")

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._worker.shutdown()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[int]:
        """A robot's memory in the policy, from connect to disconnect."""
        session = next(self._names)
        self._sessions.add(session)
        try:
            await self.reset(session, seed=0)
            yield session
        finally:
            self._sessions.discard(session)
            await self._call(self._policy.forget, session)

    async def reset(self, session: int, seed: int) -> None:
        """Starts an episode of a session."""
        await self._call(self._policy.reset, session, seed)

    async def infer(self, session: int, observation: Mapping[str, Any]) -> Answer:
        """A chunk for an observation; raises what the policy raised for it."""
        request = _Request(session, observation, asyncio.get_running_loop().create_future())
        self._requests.put_nowait(request)
        return await request.answer

    async def _run(self) -> None:
        while True:
            await self._answer(await self._gather())

    async def _gather(self) -> list[_Request]:
        batch = [await self._requests.get()]
        with suppress(TimeoutError):
            async with asyncio.timeout(self._max_wait_s):
                while len(batch) < min(self._policy.max_batch, len(self._sessions)):
                    batch.append(await self._requests.get())
        return batch

    async def _answer(self, batch: list[_Request]) -> None:
        started_s = time.perf_counter()
        try:
            chunks = await self._call(self._infer, batch)
        except Exception as error:
            if len(batch) == 1:
                return batch[0].resolve(error)
            for request in batch:
                await self._answer([request])
            return None
        inference_s = time.perf_counter() - started_s
        for request, chunk in zip(batch, chunks, strict=True):
            request.resolve(Answer(chunk, started_s - request.queued_s, inference_s))
        return None

    def _infer(self, batch: list[_Request]) -> Sequence[Chunk]:
        chunks = self._policy.infer([r.session for r in batch], [r.observation for r in batch])
        if len(chunks) != len(batch):
            raise RuntimeError(f"expected {len(batch)} chunks of the policy, got {len(chunks)}")
        return chunks

    async def _call[**P, T](self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One thread, so the policy is never entered twice at once."""
        return await asyncio.get_running_loop().run_in_executor(
            self._worker, lambda: function(*args, **kwargs)
        )
