"""`vega-serve` checks its request before it loads anything, and keeps the token off the command line."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vega_policy.cli import sim_arm
from vega_policy.cli.policies import PolicyConfig
from vega_policy.cli.serve import ServeConfig, listen_of, main

POLICY = "--policy.path=configs/policy/vega_tiny.yaml"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([POLICY, "--host=0.0.0.0"], "expected a token because other machines can reach 0.0.0.0"),
        ([POLICY, "--token_file=/nowhere/token"], "/nowhere/token"),
        (["--policy.path=nowhere/at/all"], "there is nothing of the kind at nowhere/at/all"),
        (["--policy.type=hold"], "expected --policy.path=DIR, got --policy.type=hold"),
        ([POLICY, "--max_batch=0"], "expected --max_batch >= 1, got 0"),
        ([POLICY, "--observation=openpi_libro"], "did you mean openpi_libero?"),
        ([POLICY, "--control_hz=0"], "expected --control_hz > 0"),
        ([POLICY, "--control_hz=nan"], "expected --control_hz > 0"),
        ([POLICY, "--max_wait_ms=nan"], "expected --max_wait_ms >= 0"),
        ([POLICY, "--port=99999"], "expected --port in 0..65535, got 99999"),
        ([POLICY, "--prot=1"], "did you mean --port?"),
    ],
)
def test_a_mistake_ends_with_one_line(
    arguments: list[str], message: str, error_line: Callable[..., str]
) -> None:
    assert message in error_line(main, arguments)


@pytest.mark.parametrize("port", [-1, 65536])
def test_the_simulated_arm_refuses_no_port_with_one_line(port: int, error_line: Callable[..., str]) -> None:
    assert f"expected --port in 0..65535, got {port}" in error_line(sim_arm.main, [f"--port={port}"])


def test_the_token_is_read_from_its_file(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("a token of some length\n")
    config = ServeConfig(
        PolicyConfig(path="somewhere"), host="0.0.0.0", token_file=token_file, max_wait_ms=2.0
    )
    listen = listen_of(config)
    assert (listen.host, listen.token, listen.max_wait_s) == ("0.0.0.0", "a token of some length", 0.002)


def test_help_is_immediate() -> None:
    program = (
        "import sys, contextlib\n"
        "from vega_policy.cli.serve import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "assert not {'torch', 'lerobot', 'mujoco'} & sys.modules.keys()"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "--token_file" in run.stdout
