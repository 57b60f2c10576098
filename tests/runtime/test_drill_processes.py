"""The fault table with processes and sockets: some faults with a kinematic arm, all with the simulated."""

import re
from pathlib import Path

import pytest
from kinematic_arm import arm_process

from vega_policy.cli.drill import main

SPEED = 0.25
LIMITS = Path(__file__).parent.parent.parent / "configs" / "robot" / "sim_arm.yaml"


def table(arguments: list[str], output: Path) -> dict[str, list[str]]:
    assert main([*arguments, f"--output={output}"]) == 0, output.read_text()
    rows = [line.strip("|").split("|") for line in output.read_text().splitlines()[2:]]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


@pytest.mark.slow
def test_processes_are_killed_and_sockets_are_slow_and_no_limit_is_exceeded(tmp_path: Path) -> None:
    names = '["policy server killed","control loop killed","policy emits NaN","disk full while recording"]'
    arguments = [f"--faults={names}", f"--sim.speed={SPEED}", "--sim.image_size_px=32"]
    with arm_process(SPEED) as (_, uri):
        rows = table([*arguments, f"--address={uri}"], tmp_path / "table.md")
    # The slow stop of an arm that the rows before had brought to rest already is over at once.
    assert re.match(r"moves,( slow stop,)? hold \(no command for too long", rows["policy server killed"][0])
    assert rows["control loop killed"][0].startswith("holds by itself")
    assert rows["policy emits NaN"][0].startswith("moves, hold (command is not seven finite numbers")
    assert rows["disk full while recording"][0] == "goes on"
    still_after_s = [rows[name][1] for name in ("policy server killed", "control loop killed")]
    assert all(float(value) < 2.0 for value in still_after_s)


@pytest.mark.slow
@pytest.mark.sim
def test_the_simulated_arm_keeps_all_limits_whatever_fails(tmp_path: Path) -> None:
    rows = table(["--sim.assets=standin"], tmp_path / "table.md")
    assert len(rows) == 17
    assert all(row[3] == "none exceeded" for row in rows.values())


def test_an_unknown_fault_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['--faults=["camera freeze"]']) == 2
    assert "did you mean camera freezes" in capsys.readouterr().err
