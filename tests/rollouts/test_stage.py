"""What a worker says while it plays."""

import multiprocessing
from pathlib import Path

from tiny_world import TASKS, TinyWorld

from vega_policy.rollouts.baselines import MakeRandom
from vega_policy.rollouts.episode import Episode, Row
from vega_policy.rollouts.stage import Alive, Built, Job, _attempt, _Stage


def test_every_decision_is_a_sign_of_life(tmp_path: Path) -> None:
    ours, theirs = multiprocessing.Pipe()
    stage = _Stage(Job(TinyWorld(), MakeRandom(), tmp_path))
    row = _attempt(stage, Episode(TASKS[0], trial=0, seed=0), theirs, tmp_path)
    theirs.close()
    said = []
    while ours.poll():
        try:
            said.append(ours.recv())
        except EOFError:
            break
    assert isinstance(row, Row)
    assert row.decisions > 1
    assert [type(message) for message in said] == [Built] + row.decisions * [Alive]
