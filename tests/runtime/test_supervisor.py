"""When a run ends, and what a person's word does after a fault."""

import queue
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from vega_policy.runtime.clock import FakeClock
from vega_policy.runtime.faults import Fault, FaultKind
from vega_policy.runtime.supervisor import Ending, Supervisor


class FakeLoop(SimpleNamespace):
    def clear_faults(self) -> None:
        self.faults = ()


def rig(ask=None, solved: bool = False) -> tuple[FakeClock, FakeLoop, Supervisor]:
    clock, loop = FakeClock(50.0), FakeLoop(faults=())
    supervisor = Supervisor(clock, 10.0, lambda: solved, ask)
    assert supervisor.is_done(loop) == solved
    return clock, loop, supervisor


def test_a_run_ends_when_its_time_is_up() -> None:
    clock, loop, supervisor = rig()
    clock.advance(9.9)
    assert not supervisor.is_done(loop)
    clock.advance(0.2)
    assert supervisor.is_done(loop)
    assert supervisor.ending is Ending.TIME


def test_a_run_ends_when_the_task_is_solved() -> None:
    assert rig(solved=True)[2].ending is Ending.SUCCESS


@pytest.mark.parametrize("jump_s", [1.1, -2.0])
def test_an_unattended_run_ends_a_second_after_a_fault_even_if_the_clock_runs_backwards(
    jump_s: float,
) -> None:
    clock, loop, supervisor = rig()
    loop.faults = (Fault(FaultKind.OVERSPEED, 50.0),)
    assert not supervisor.is_done(loop), "the arm is held first"
    clock.advance(jump_s)
    assert supervisor.is_done(loop)
    assert supervisor.ending is Ending.FAULT


class Person:
    """Answers when told to, and notes what they were asked."""

    def __init__(self) -> None:
        self.answers: queue.Queue[str | Exception] = queue.Queue()
        self.questions: list[str] = []

    def ask(self, question: str) -> str:
        self.questions.append(question)
        answer = self.answers.get(timeout=30)
        if isinstance(answer, Exception):
            raise answer
        return answer


def until(supervisor: Supervisor, loop: FakeLoop, holds: Callable[[], bool]) -> None:
    """Ticks until something holds, which depends on the person's thread."""
    deadline = time.monotonic() + 30
    while not holds():
        supervisor.is_done(loop)
        assert time.monotonic() < deadline


STALE = Fault(FaultKind.FRAME_STALE, 50.0, 0.31, 0.25)
OUTSIDE = Fault(FaultKind.OUTSIDE_WORKSPACE, 50.5, 0.04, 0.03)


def test_a_fault_waits_for_a_person_who_says_go_and_for_no_other_word() -> None:
    person = Person()
    clock, loop, supervisor = rig(person.ask)
    loop.faults = (STALE,)
    assert not supervisor.is_done(loop)
    clock.advance(5.0)
    person.answers.put("what?")
    assert not supervisor.is_done(loop), "however long it takes"
    assert loop.faults
    person.answers.put("go")
    until(supervisor, loop, lambda: not loop.faults)
    assert len(person.questions) == 2
    assert "a camera's frame is too old" in person.questions[0]
    assert "found 0.31, limit 0.25" in person.questions[0]


def test_a_fault_that_the_person_was_not_shown_is_not_cleared() -> None:
    person = Person()
    _, loop, supervisor = rig(person.ask)
    loop.faults = (STALE,)
    assert not supervisor.is_done(loop)
    loop.faults = (STALE, OUTSIDE)
    person.answers.put("go")
    until(supervisor, loop, lambda: len(person.questions) == 2)
    assert loop.faults == (STALE, OUTSIDE)
    assert "bring the arm back" in person.questions[1]
    person.answers.put("go")
    until(supervisor, loop, lambda: not loop.faults)


def test_a_person_who_is_gone_for_good_ends_the_run() -> None:
    person = Person()
    clock, loop, supervisor = rig(person.ask)
    loop.faults = (STALE,)
    assert not supervisor.is_done(loop)
    clock.advance(5.0)
    person.answers.put(EOFError())
    until(supervisor, loop, lambda: supervisor.ending is not None)
    assert supervisor.ending is Ending.FAULT


def test_nobody_s_leaving_is_ever_taken_for_a_go() -> None:
    """The person's thread may end between any two of the loop's instructions; threads switch often here."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(300):
            clock, loop, supervisor = rig(leave_at_once)
            loop.faults = (STALE,)
            assert not supervisor.is_done(loop)
            clock.advance(5.0)
            until(supervisor, loop, lambda ended=supervisor: ended.ending is not None)
            assert loop.faults, "the fault was cleared though nobody said go"
    finally:
        sys.setswitchinterval(interval_s)


def leave_at_once(question: str) -> str:
    raise EOFError(question)


def test_a_run_whose_time_is_up_while_a_fault_is_latched_ended_with_a_fault() -> None:
    clock, loop, supervisor = rig(Person().ask)
    loop.faults = (STALE,)
    clock.advance(10.1)
    assert supervisor.is_done(loop)
    assert supervisor.ending is Ending.FAULT
