"""Time for the control path: everything that measures or waits asks a `Clock`, so tests need not sleep.

The origin is arbitrary and never the wall clock, which jumps when a machine sets its time. Stamps of states,
frames and chunks are comparable only if they come from the same clock.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds that only grow, and a way to wait for them."""

    def now_s(self) -> float:
        """Seconds since an arbitrary origin."""
        ...

    def sleep_until(self, time_s: float) -> None:
        """Returns at `time_s` or a little later; at once if that has passed."""
        ...


class SystemClock:
    """The machine's monotonic clock."""

    def now_s(self) -> float:
        """Seconds since boot, on most systems."""
        return time.monotonic()

    def sleep_until(self, time_s: float) -> None:
        """Sleeps; the operating system may wake the process late, which the control loop measures."""
        remaining_s = time_s - time.monotonic()
        if remaining_s > 0:
            time.sleep(remaining_s)


class FakeClock:
    """A clock that moves only when told or slept on."""

    def __init__(self, now_s: float = 0.0) -> None:
        self._now_s = now_s

    def now_s(self) -> float:
        """The time last set."""
        return self._now_s

    def sleep_until(self, time_s: float) -> None:
        """Jumps to `time_s`, never backwards."""
        self._now_s = max(self._now_s, time_s)

    def advance(self, seconds: float) -> None:
        """Lets time pass; negative seconds are a clock that misbehaves."""
        self._now_s += seconds
