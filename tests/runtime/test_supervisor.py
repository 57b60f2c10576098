"""When a run ends, and what a person's word does after a fault."""

import queue
import time
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


def test_a_fault_waits_for_a_person_who_says_go_and_for_no_other_word() -> None:
    answers: queue.Queue[str] = queue.Queue()
    questions: list[str] = []

    def ask(question: str) -> str:
        questions.append(question)
        return answers.get(timeout=30)

    clock, loop, supervisor = rig(ask)
    loop.faults = (Fault(FaultKind.FRAME_STALE, 50.0),)
    assert not supervisor.is_done(loop)
    clock.advance(5.0)
    answers.put("what?")
    assert not supervisor.is_done(loop), "however long it takes"
    assert loop.faults
    answers.put("go")
    deadline = time.monotonic() + 30
    while loop.faults:
        assert not supervisor.is_done(loop)
        assert time.monotonic() < deadline
    assert "a camera's frame is too old" in questions[0]
    assert len(questions) == 2
