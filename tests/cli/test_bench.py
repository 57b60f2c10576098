"""`vega-bench env` compares like with like, writes what it prints, and starts without heavy imports."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vega_policy.cli.bench import compare, main


def test_rounds_are_compared_with_each_other() -> None:
    """A machine that is three times slower in one round changes neither the quotient nor the median."""
    seconds = {"plain": [0.1, 0.3, 0.1], "chunk 8": [0.02, 0.06, 0.02]}
    compared = compare(seconds, "plain")
    assert compared["plain"] == {"ms": 100.0, "times_faster": 1.0}
    assert compared["chunk 8"] == pytest.approx({"ms": 20.0, "times_faster": 5.0})


@pytest.mark.sim
def test_the_table_and_the_json_hold_the_same_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--assets=standin", "--chunks=[2,4]", "--steps=4", "--rounds=1"]
    assert main(["env", *small, f"--output_dir={tmp_path}"]) == 0
    table = (tmp_path / "bench_env.md").read_text()
    assert capsys.readouterr().out.strip() == table.strip()
    report = json.loads((tmp_path / "bench_env.json").read_text())
    assert list(report["control_steps"]) == ["plain", "chunk 2", "chunk 4"]
    assert list(report["pictures"]) == ["standin"]
    assert report["provenance"]["assets"] == "standin"
    for name, row in report["control_steps"].items():
        assert f"| {name} | {row['ms']:.1f} |" in table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["envs"], "usage: vega-bench {env,policy}"),
        ([], "usage: vega-bench {env,policy}"),
        (["env", "--suite=libero_spacial"], "did you mean 'libero_spatial'"),
        (
            ["env", "--steps=300", "--assets=standin"],
            "expected --steps <= 220, those of one episode, got 300",
        ),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    code = """
import contextlib, sys
from vega_policy.cli.bench import main
with contextlib.suppress(SystemExit):
    main(["env", "--help"])
assert not {"torch", "numpy", "libero", "mujoco", "lerobot"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--chunks" in done.stdout
