import numpy as np
import pytest

from vega_policy.runtime.chunks import Chunk, Playback, admit, play, rows_ahead

PERIOD_S = 0.05
OPEN_LOOP = Playback()


def chunk(observed_at_s: float, value: float = 0.0, *, rows: int = 8, latency_s: float = 0.1) -> Chunk:
    """Row k is `value + k` throughout."""
    actions = value + np.repeat(np.arange(rows, dtype=float)[:, None], 7, axis=1)
    return Chunk(actions, observed_at_s, PERIOD_S, observed_at_s + latency_s)


def played(chunks: tuple[Chunk, ...], now_s: float, playback: Playback = OPEN_LOOP) -> float | None:
    row = play(chunks, now_s, playback)
    return None if row is None else float(row.action[0])


def test_rows_have_their_moments_and_past_ones_are_never_played() -> None:
    chunks = admit((), chunk(1.0))
    on_time = [played(chunks, 1.1 + k * PERIOD_S) for k in range(8)]
    assert on_time == [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, None, None]
    assert played(chunks, 1.149) == 2.0
    assert played(chunks, 0.9) is None


def test_ticks_on_time_skip_no_row_whatever_the_rounding() -> None:
    observed_at_s = 0.1 + 0.2
    chunks = admit((), chunk(observed_at_s, rows=100, latency_s=0.0))
    times_s = [observed_at_s]
    for _ in range(99):
        times_s.append(times_s[-1] + PERIOD_S)
    assert [played(chunks, time_s) for time_s in times_s] == list(range(100))


def test_open_loop_switches_when_a_chunk_arrives() -> None:
    chunks = admit(admit((), chunk(0.0)), chunk(0.2, 100.0))
    assert played(chunks, 0.3) == 102.0
    row = play(chunks, 0.3, OPEN_LOOP)
    assert row is not None
    assert row.observed_at_s == 0.2


def test_a_chunk_that_was_overtaken_is_left_out_and_an_ended_one_dropped() -> None:
    newer = chunk(0.2)
    assert admit((newer,), chunk(0.1)) == (newer,)
    assert admit((newer,), chunk(0.2)) == (newer,)
    assert len(admit((newer,), chunk(0.4))) == 2
    assert len(admit((newer,), chunk(0.7))) == 1


def test_the_ensemble_weighs_the_oldest_most() -> None:
    ensemble = Playback("temporal_ensemble", ensemble_decay=np.log(2))
    chunks = admit(admit((), chunk(0.0, 10.0)), chunk(0.1, 40.0))
    assert played(chunks, 0.2, ensemble) == pytest.approx((2 * 14 + 42) / 3)
    assert played(chunks, 0.4, ensemble) == 46.0  # the older one has ended


def test_rtc_fades_over_from_arrival_on() -> None:
    chunks = admit(admit((), chunk(0.0, 0.0)), Chunk(np.full((8, 7), 90.0), 0.1, PERIOD_S, 0.2))
    rtc = Playback("rtc", blend_rows=2)
    assert [played(chunks, 0.2 + k * PERIOD_S, rtc) for k in range(3)] == pytest.approx(
        [4 + (90 - 4) / 3, 5 + (90 - 5) * 2 / 3, 90.0]
    )
    assert played(chunks, 0.2, Playback("rtc", blend_rows=0)) == 90.0


def test_rows_ahead_are_those_not_yet_played() -> None:
    assert rows_ahead((), 0.0).shape == (0, 7)
    assert rows_ahead((chunk(0.0),), 0.25)[:, 0].tolist() == [5.0, 6.0, 7.0]
    assert len(rows_ahead((chunk(0.0),), -1.0)) == 8
    assert len(rows_ahead((chunk(0.0),), 9.0)) == 0


@pytest.mark.parametrize("shape", [(7,), (0, 7), (4, 6), (1, 4, 7)])
def test_a_chunk_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape \(rows, 7\)"):
        Chunk(np.zeros(shape), 0.0, PERIOD_S, 0.0)


@pytest.mark.parametrize(
    "times", [(0.0, 0.0, 0.0), (1.0, 0.05, 0.0), (float("nan"), 0.05, 0.0), (0.0, 0.05, np.inf)]
)
def test_a_chunk_without_sensible_times_is_refused(times: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="positive period"):
        Chunk(np.zeros((1, 7)), *times)


def test_a_playback_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'open_loop'"):
        Playback("openloop")
    with pytest.raises(ValueError, match="replan_rows"):
        Playback(replan_rows=0)
