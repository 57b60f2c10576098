"""Where a request's time goes: one histogram per stage, in Prometheus' text format.

The clock is read for these reports only; nothing is decided by it.
"""

import itertools
import math
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

STAGES = ("decode", "wait", "inference", "encode")
BOUNDS_S = tuple(1e-4 * 2**power for power in range(16))  # 0.1 ms to 3.3 s


class Stopwatch:
    """The stages of one request."""

    def __init__(self) -> None:
        self.spent_s: dict[str, float] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Measures a stage."""
        started_s = time.perf_counter()
        yield
        self.spent_s[stage] = time.perf_counter() - started_s

    def in_ms(self) -> dict[str, float]:
        """The reply's `server_timing`."""
        return {f"{stage}_ms": 1000 * spent_s for stage, spent_s in self.spent_s.items()}


class Histogram:
    """Counts of durations per power-of-two bucket."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0

    def add(self, spent_s: float) -> None:
        """Counts a duration in seconds."""
        self._counts[bisect_left(BOUNDS_S, spent_s)] += 1
        self._sum_s += spent_s

    def lines(self, stage: str) -> Iterator[str]:
        """Lines of Prometheus' text format, version 0.0.4: cumulative counts, then the sum."""
        total = 0
        for bound, count in zip((*BOUNDS_S, "+Inf"), self._counts, strict=True):
            total += count
            yield f'vega_serve_seconds_bucket{{stage="{stage}",le="{bound}"}} {total}'
        yield f'vega_serve_seconds_sum{{stage="{stage}"}} {self._sum_s}'
        yield f'vega_serve_seconds_count{{stage="{stage}"}} {total}'

    def summary(self) -> str:
        """Count, mean and the bounds below which shares of the durations lie, for the log."""
        count = sum(self._counts)
        bounds = " ".join(f"p{percent}<={self._bound_ms(percent):.4g}ms" for percent in (50, 90, 99))
        return f"n={count} mean={1000 * self._sum_s / max(1, count):.2f}ms {bounds}"

    def _bound_ms(self, percent: int) -> float:
        """The first bucket's bound that at least so many of the durations lie below."""
        wanted = percent / 100 * sum(self._counts)
        totals = itertools.accumulate(self._counts)
        bounds_s = zip((*BOUNDS_S, math.inf), totals, strict=True)
        return 1000 * next(bound_s for bound_s, total in bounds_s if total >= wanted)


class LatencyReport:
    """The histograms of a server."""

    def __init__(self) -> None:
        self._histograms = {stage: Histogram() for stage in STAGES}

    def add(self, spent_s: Mapping[str, float]) -> None:
        """Counts the stages of one request."""
        for stage, seconds in spent_s.items():
            self._histograms[stage].add(seconds)

    def text(self) -> str:
        """What `/metrics` answers."""
        lines = [line for stage, histogram in self._histograms.items() for line in histogram.lines(stage)]
        return "\n".join(["# TYPE vega_serve_seconds histogram", *lines, ""])

    def summary(self) -> str:
        """One line for the log."""
        return ", ".join(f"{stage} {histogram.summary()}" for stage, histogram in self._histograms.items())
