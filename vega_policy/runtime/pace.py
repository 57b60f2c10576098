"""How steadily the control loop ticks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PaceReport:
    """Statistics of the time between ticks; the rate's error is relative, 0 without two ticks."""

    num_ticks: int
    rate_error: float
    worst_jitter_s: float


class Pace:
    """Collects the times of ticks."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._first_s = self._last_s = 0.0
        self._num_ticks = 0
        self._worst_jitter_s = 0.0

    def record(self, now_s: float) -> None:
        """Takes a tick in."""
        if self._num_ticks == 0:
            self._first_s = now_s
        else:
            jitter_s = abs(now_s - self._last_s - self._period_s)
            self._worst_jitter_s = max(self._worst_jitter_s, jitter_s)
        self._last_s = now_s
        self._num_ticks += 1

    def report(self) -> PaceReport:
        """The statistics so far; a loop slower than it should be has a negative error."""
        elapsed_s = self._last_s - self._first_s
        expected_s = (self._num_ticks - 1) * self._period_s
        error = expected_s / elapsed_s - 1 if elapsed_s > 0 else 0.0
        return PaceReport(self._num_ticks, error, self._worst_jitter_s)
