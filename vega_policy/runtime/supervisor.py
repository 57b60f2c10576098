"""When a run on a robot is over, and whether a person lets it go on after a fault."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum

from vega_policy.runtime.clock import Clock
from vega_policy.runtime.faults import Fault, FaultKind
from vega_policy.runtime.loop import ControlLoop, TickReport

logger = logging.getLogger(__name__)

SETTLE_S = 1.0  # for which the arm is held after a fault before an unattended run ends


class Ending(StrEnum):
    """Why a run ended."""

    SUCCESS = "task solved"
    TIME = "time is up"
    FAULT = "fault"


class Supervisor:
    """Watches a loop and decides whether it goes on.

    After a fault the arm holds. An attended run waits for the person, who clears what they were shown by
    answering `ask`; any other run ends a second later.

    Args:
        clock: the loop's.
        duration_s: after which a run ends.
        is_solved: whether the task is done, where somebody knows.
        ask: asks the person and returns their answer; it blocks, so it runs in a thread. None if nobody is
            there; one that raises EOFError or OSError means that nobody is there any more.
    """

    def __init__(
        self,
        clock: Clock,
        duration_s: float,
        is_solved: Callable[[], bool],
        ask: Callable[[str], str] | None,
    ) -> None:
        self._clock, self._duration_s = clock, duration_s
        self._is_solved, self._ask = is_solved, ask
        self._start_s: float | None = None
        self._faulty_since_s: float | None = None
        self._shown: frozenset[FaultKind] = frozenset()  # in the question that waits for an answer
        self._said_go = threading.Event()
        self.ending: Ending | None = None
        self.interventions: Counter[str] = Counter()
        self.faults: list[str] = []
        self.num_held = 0

    def watch(self, report: TickReport) -> None:
        """Counts; a `Watcher`."""
        self.interventions.update(item.limit for item in report.decision.interventions)
        self.faults.extend(str(fault) for fault in report.decision.new_faults)
        self.num_held += report.sent is None

    def is_done(self, loop: ControlLoop) -> bool:
        """Whether to end; called before every tick, in the loop's thread."""
        now_s = self._clock.now_s()
        self._start_s = now_s if self._start_s is None else self._start_s
        if self._is_solved():
            self.ending = Ending.SUCCESS
        elif now_s - self._start_s > self._duration_s:
            self.ending = Ending.FAULT if loop.faults else Ending.TIME
        elif loop.faults and self._is_given_up(loop, now_s):
            self.ending = Ending.FAULT
        return self.ending is not None

    def _is_given_up(self, loop: ControlLoop, now_s: float) -> bool:
        self._faulty_since_s = now_s if self._faulty_since_s is None else self._faulty_since_s
        if self._ask is None:
            # A clock that ran backwards must not keep a run from ending.
            return abs(now_s - self._faulty_since_s) >= SETTLE_S
        if self._said_go.is_set():
            self._take_go(loop)
        if loop.faults and not self._shown:
            self._shown = frozenset(fault.kind for fault in loop.faults)
            arguments = (self._ask, _question(loop.faults))
            threading.Thread(target=self._wait_for_person, args=arguments, daemon=True).start()
        return False

    def _take_go(self, loop: ControlLoop) -> None:
        """A go counts for what the person was shown; faults found since then are left latched."""
        self._said_go.clear()
        shown, self._shown = self._shown, frozenset()
        if all(fault.kind in shown for fault in loop.faults):
            self._faulty_since_s = None
            loop.clear_faults()

    def _wait_for_person(self, ask: Callable[[str], str], question: str) -> None:
        try:
            while ask(question) != "go":
                pass
        except (EOFError, OSError) as error:
            logger.warning("nobody can be asked any more, the run ends: %r", error)
            self._ask = None
        else:
            self._said_go.set()


def _question(faults: Sequence[Fault]) -> str:
    lines = [f"  {fault}{fault.advice and f'; {fault.advice}'}" for fault in faults]
    return "\n".join(["the arm holds:", *lines, "Type go once it is safe to go on (Ctrl-C ends): "])
