import concurrent.futures
import threading

import numpy as np
import pytest
from fake_arm import state

from vega_policy.runtime.client import PolicyUnavailableError, RefusedError
from vega_policy.runtime.robots.base import Reading
from vega_policy.runtime.sources import ChunkError, ChunkRefusedError, ChunkRequest, PolicyThread
from vega_policy.runtime.specs import SpecMismatchError

REQUEST = ChunkRequest(Reading(state(), {}), "task", np.zeros((0, 7)))


def wait_for(source: PolicyThread) -> np.ndarray:
    assert source._under_way is not None
    concurrent.futures.wait([source._under_way], timeout=30)
    chunk = source.poll()
    assert chunk is not None
    return chunk


def test_a_chunk_comes_once_and_asking_does_not_wait_for_it() -> None:
    go = threading.Event()

    def infer(request: ChunkRequest) -> np.ndarray:
        go.wait(timeout=30)
        return np.ones((2, 7))

    source = PolicyThread(infer, lambda: None)
    assert source.poll() is None
    source.ask(REQUEST)
    assert source.poll() is None
    go.set()
    np.testing.assert_array_equal(wait_for(source), np.ones((2, 7)))
    assert source.poll() is None


def test_a_policy_that_fails_is_reported_and_can_be_asked_again() -> None:
    def infer(request: ChunkRequest) -> np.ndarray:
        raise ZeroDivisionError("in the model")

    resets: list[bool] = []
    source = PolicyThread(infer, lambda: resets.append(True))
    for _ in range(2):
        source.ask(REQUEST)
        with pytest.raises(ChunkError, match="in the model"):
            wait_for(source)
    assert len(resets) == 2


def test_what_was_under_way_before_a_reset_never_comes_and_the_policy_is_used_by_one_thread() -> None:
    go, started, calls = threading.Event(), threading.Event(), []

    def infer(request: ChunkRequest) -> np.ndarray:
        started.set()
        go.wait(timeout=30)
        calls.append(request.task)
        return np.full((1, 7), len(calls))

    source = PolicyThread(infer, lambda: calls.append("reset"))
    source.ask(REQUEST)
    assert started.wait(timeout=30)
    source.reset()
    assert source.poll() is None
    source.ask(REQUEST)
    go.set()
    assert wait_for(source)[0, 0] == 4
    source.ask(REQUEST)
    wait_for(source)
    assert calls == ["reset", "task", "reset", "task", "task"]


@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        (RefusedError("no such camera"), True),
        (SpecMismatchError("another policy"), True),
        (PolicyUnavailableError("no answer"), False),
        (ValueError("not finite"), False),
    ],
)
def test_only_a_policy_that_will_never_answer_has_refused(error: Exception, is_final: bool) -> None:
    def infer(request: ChunkRequest) -> np.ndarray:
        raise error

    source = PolicyThread(infer, lambda: None)
    source.ask(REQUEST)
    with pytest.raises(ChunkError) as caught:
        wait_for(source)
    assert isinstance(caught.value, ChunkRefusedError) == is_final
