"""The whole deployment as it is run: `vega-serve`, `vega-robot` and the simulated arm, three processes."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from kinematic_arm import arm_process

from vega_policy.runtime.recordings import read_robot_recording

ROOT = Path(__file__).resolve().parents[2]
SPEED = 0.05  # of the clocks, so that a busy machine has the time for physics, pictures and policy
SIM_ARM = ["--assets=standin", "--image_size_px=32", f"--speed={SPEED}", "--with_parent=true"]


def program(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"vega_policy.cli.{name}", *arguments]


@contextmanager
def policy_server() -> Iterator[subprocess.Popen[str]]:
    """`vega-serve` with an untrained policy; it may not listen yet."""
    command = program("serve", "--policy.path=configs/policy/vega_tiny.yaml", "--port=0")
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=60)


def address(server: subprocess.Popen[str]) -> str:
    """Where it listens, as soon as it does."""
    assert server.stderr is not None
    said = ""
    while (found := re.search(r"serving on (ws://\S+)\n", said)) is None:
        said += (line := server.stderr.readline())
        assert line, said
    return found[1]


@pytest.mark.slow
@pytest.mark.sim
def test_a_served_policy_drives_the_simulated_arm(tmp_path: Path) -> None:
    with policy_server() as server, arm_process(SPEED, program("sim_arm", *SIM_ARM)) as (_, arm_uri):
        command = program(
            "robot",
            *(f"--robot.address={arm_uri}", "--robot.arm=tests/runtime/patient_arm.yaml", "--yes"),
            *(f"--server={address(server)}", f"--sim.speed={SPEED}", "--timeout_s=60"),
            *("--duration_s=2", f"--record={tmp_path / 'deployed'}"),
        )
        run = subprocess.run(command, capture_output=True, cwd=ROOT, text=True, check=False)
    assert run.returncode == 0, run.stderr
    for line in ("ended: time is up", "rate error", "worst jitter", "task solved: no", "1 episodes"):
        assert line in run.stdout
    rows = read_robot_recording(tmp_path / "deployed.recordings" / "run00000").rows
    sent = [row for row in rows if row["is_sent"]]
    assert sent, "the served policy's commands reached the arm"
    assert np.isfinite([row["policy_action"] for row in sent]).all()
