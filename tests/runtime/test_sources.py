import threading

import numpy as np
import pytest
from fake_arm import state

from vega_policy.runtime.robots.base import Reading
from vega_policy.runtime.sources import ChunkError, ChunkRequest, PolicyThread

REQUEST = ChunkRequest(Reading(state(), {}), "task", np.zeros((0, 7)))


def wait_for(source: PolicyThread) -> np.ndarray:
    answer = source._answer
    assert answer is not None
    assert answer.ready.wait(timeout=30)
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

    source = PolicyThread(infer, lambda: None)
    for _ in range(2):
        source.ask(REQUEST)
        with pytest.raises(ChunkError, match="in the model"):
            wait_for(source)


def test_what_was_under_way_before_a_reset_never_comes() -> None:
    go, started, resets = threading.Event(), threading.Event(), []

    def infer(request: ChunkRequest) -> np.ndarray:
        started.set()
        go.wait(timeout=30)
        return np.zeros((1, 7)) if request is REQUEST else np.ones((1, 7))

    source = PolicyThread(infer, lambda: resets.append(True))
    source.ask(REQUEST)
    old = source._answer
    source.reset()
    go.set()
    assert old is not None
    assert old.ready.wait(timeout=30)
    assert source.poll() is None
    source.ask(ChunkRequest(REQUEST.reading, "task", REQUEST.ahead))
    np.testing.assert_array_equal(wait_for(source), np.ones((1, 7)))
    assert resets == [True]
