"""Logs go on where a run was stopped, whatever a kill has left of their last line."""

import json
from pathlib import Path

from vega_policy.training.logs import MetricLog


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_steps_that_come_again_and_torn_lines_are_dropped(tmp_path: Path) -> None:
    with MetricLog(tmp_path) as log:
        for step in (1, 2, 3):
            log.write(step, {"loss": step / 4})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    with MetricLog(tmp_path, last_step=2) as log:
        log.write(3, {"loss": 0.5})
    expected = [(1, 0.25), (2, 0.5), (3, 0.5)]
    assert lines(tmp_path) == [{"step": step, "loss": loss} for step, loss in expected]
    assert list(tmp_path.glob("events*"))


def test_a_stage_drops_its_own_steps_only(tmp_path: Path) -> None:
    for stage, steps in (("vae", (1, 2)), ("flow", (1, 2))):
        with MetricLog(tmp_path, stage=stage) as log:
            for step in steps:
                log.write(step, {"loss": 1.0})
    with MetricLog(tmp_path, last_step=1, stage="flow"):
        pass
    assert [(line["stage"], line["step"]) for line in lines(tmp_path)] == [
        ("vae", 1),
        ("vae", 2),
        ("flow", 1),
    ]
    assert list((tmp_path / "tensorboard" / "flow").glob("events*"))
