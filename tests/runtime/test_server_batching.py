"""Requests of several sessions share a batch, and only the one at fault gets an error."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from vega_policy.runtime.batching import Batcher, Chunk, OneByOne


class Doubler:
    """Answers with twice the observation; remembers its batches, and can be held inside one."""

    def __init__(self, max_batch: int = 4) -> None:
        self.max_batch = max_batch
        self.batches: list[list[int]] = []
        self.forgotten: list[int] = []
        self.may_run = threading.Event()
        self.may_run.set()

    def reset(self, session: int, seed: int) -> None:
        pass

    def forget(self, session: int) -> None:
        self.forgotten.append(session)

    def infer(self, sessions: Sequence[int], observations: Sequence[Mapping[str, Any]]) -> list[Chunk]:
        self.batches.append(list(sessions))
        assert self.may_run.wait(60)
        if any(o["x"] < 0 for o in observations):
            raise ArithmeticError("negative")
        return [np.full((1, 1), 2.0 * o["x"]) for o in observations]


async def ask_together(policy: Doubler, values: list[float], max_wait_s: float = 60) -> list[Any]:
    async with Batcher(policy, max_wait_s) as batcher, asyncio.TaskGroup() as group:
        everybody_is_here = asyncio.Barrier(len(values))

        async def ask(value: float) -> Any:
            async with batcher.session() as session:
                await everybody_is_here.wait()
                try:
                    return (await batcher.infer(session, {"x": value})).chunk.item()
                except ArithmeticError as error:
                    return error
                finally:
                    await everybody_is_here.wait()

        tasks = [group.create_task(ask(value)) for value in values]
    return [task.result() for task in tasks]


def test_waiting_requests_share_a_batch_and_get_their_own_answers() -> None:
    policy = Doubler()
    assert asyncio.run(ask_together(policy, [1, 2, 3])) == [2, 4, 6]
    assert [sorted(batch) for batch in policy.batches] == [[0, 1, 2]]
    assert sorted(policy.forgotten) == [0, 1, 2]


def test_no_batch_is_larger_than_the_policy_takes() -> None:
    policy = Doubler(max_batch=2)
    assert asyncio.run(ask_together(policy, [1, 2, 3, 4], max_wait_s=0)) == [2, 4, 6, 8]
    assert max(map(len, policy.batches)) <= 2


def test_the_one_at_fault_gets_the_error() -> None:
    good, bad, other = asyncio.run(ask_together(Doubler(), [1, -1, 3]))
    assert (good, other) == (2, 6)
    assert isinstance(bad, ArithmeticError)


def test_the_event_loop_runs_while_the_policy_thinks() -> None:
    policy = Doubler()
    policy.may_run.clear()

    async def scenario() -> float:
        async with Batcher(policy, 0) as batcher, batcher.session() as session:
            answer = asyncio.create_task(batcher.infer(session, {"x": 1}))
            while not policy.batches:
                await asyncio.sleep(0.001)
            assert not answer.done()
            policy.may_run.set()
            return (await answer).chunk.item()

    assert asyncio.run(scenario()) == 2


def test_a_lone_session_waits_for_nobody() -> None:
    """With a wait of an hour the test would not end otherwise."""
    assert asyncio.run(ask_together(Doubler(), [5], max_wait_s=3600)) == [10]


def test_a_policy_that_loses_an_answer_is_an_error_not_a_hang() -> None:
    policy = Doubler()
    policy.infer = lambda sessions, observations: []  # type: ignore[method-assign]
    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(ask_together(policy, [1]))
    assert caught.group_contains(RuntimeError, match="expected 1 chunks")


def test_one_by_one_keeps_sessions_apart() -> None:
    class Counter:
        def reset(self, seed: int) -> None:
            self.count = seed

        def act(self, observation: Mapping[str, Any]) -> Chunk:
            self.count += 1
            return np.full((1, 1), float(self.count))

    policy = OneByOne(Counter)
    policy.reset(0, seed=10)
    policy.reset(1, seed=20)
    for expected in (11, 12):
        assert policy.infer([0], [{}])[0].item() == expected
    assert policy.infer([1], [{}])[0].item() == 21
    policy.forget(0)
    with pytest.raises(KeyError):
        policy.infer([0], [{}])
