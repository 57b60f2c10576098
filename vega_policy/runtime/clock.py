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
    """The machine's monotonic clock, the same for all its processes.

    Args:
        speed: seconds of this clock in a second of the machine's. Below 1, a simulated arm keeps up on a
            machine that is too slow for it, if all processes use the same speed; a real arm needs 1.
    """

    def __init__(self, speed: float = 1.0) -> None:
        if not 0 < speed < float("inf"):
            raise ValueError(f"expected a clock's speed to be positive and finite, got {speed}")
        self._speed = speed

    def now_s(self) -> float:
        """Seconds since boot, on most systems."""
        return time.monotonic() * self._speed

    def sleep_until(self, time_s: float) -> None:
        """Sleeps; the operating system may wake the process late, which the control loop measures."""
        remaining_s = (time_s - self.now_s()) / self._speed
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
