"""What a running policy remembers: clips are oldest first, chunks are played in order."""

import pytest
import torch

from vega_policy.queues import ActionQueue, FrameHistory


def frame(value: float, batch: int = 1) -> tuple[torch.Tensor, ...]:
    return (torch.full((batch, 1, 3, 2, 2), value), torch.full((batch, 1, 3, 2, 4), 10 * value))


def values(clips: tuple[torch.Tensor, ...]) -> list[list[float]]:
    return [clip[0, :, 0, 0, 0].tolist() for clip in clips]


def test_the_oldest_frame_repeats_until_the_clip_is_full() -> None:
    history = FrameHistory(3)
    assert values(history.extend(frame(1))) == [[1, 1, 1], [10, 10, 10]]
    assert values(history.extend(frame(2))) == [[1, 1, 2], [10, 10, 20]]
    assert values(history.extend(frame(3))) == [[1, 2, 3], [10, 20, 30]]
    assert values(history.extend(frame(4))) == [[2, 3, 4], [20, 30, 40]]


def test_another_batch_without_a_reset_is_refused() -> None:
    history = FrameHistory(2)
    history.extend(frame(1))
    with pytest.raises(ValueError, match="call reset"):
        history.extend(frame(1, batch=2))


def test_a_chunk_is_played_row_by_row() -> None:
    queue = ActionQueue(2)
    assert queue.is_empty
    queue.fill(torch.arange(6.0).reshape(1, 3, 2))
    assert [queue.pop().tolist(), queue.pop().tolist()] == [[[0, 1]], [[2, 3]]]
    assert queue.is_empty
