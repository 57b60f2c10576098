"""What a user installs: one import name, LeRobot's plug-in module, and every data file."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from a copy of the tracked tree: no build folder in the checkout."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(out),
        str(source),
    ]
    subprocess.run(command, check=True)
    return next(out.glob("*.whl"))


def test_the_wheel_owns_two_names_only(wheel: Path) -> None:
    """PyPI has distributions named `envs`, `configs` and `rollouts`: our wheel would overwrite theirs."""
    top = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        "vega_policy",
        "lerobot_policy_vega.py",
    }


def test_the_wheel_holds_every_source_and_data_file(wheel: Path) -> None:
    shipped = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(
        ["git", "ls-files", "vega_policy", "envs", "rollouts", "configs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    expected = {name if name.startswith("vega_policy/") else f"vega_policy/{name}" for name in listed}
    assert expected - shipped == set()


def test_the_distribution_name_is_the_one_lerobot_looks_for(wheel: Path) -> None:
    assert wheel.name.startswith("lerobot_policy_vega-")


def test_the_lock_pins_every_line_and_names_no_address() -> None:
    lines = [
        line
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert all("==" in line for line in lines)
    assert not [line for line in lines if "://" in line or "@" in line]
    names = {line.split("==")[0].lower() for line in lines}
    assert not names & {"robomimic", "egl-probe", "hf-egl-probe", "opencv-python", "thop"}
    assert "mujoco==3.3.2" in lines


def test_the_installed_rooms_import_by_one_name(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "import vega_policy.envs, vega_policy.rollouts, vega_policy; print(len(vega_policy.__path__))"
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "1", "installed, nothing needs mounting"
