"""Set-up says in one message what is missing, and does nothing the second time."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("bash", "dirname", "grep", "cat", "sha256sum", "cut", "head", "readlink", "rm", "ln", "mkdir")


@pytest.fixture
def bare_machine(tmp_path: Path) -> dict[str, str]:
    """An environment whose PATH has a few basic tools, no Python, and an ordinary user without apt."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(str(shutil.which(name)))
    script(tools / "id", "echo 1000")
    script(tools / "ldconfig", "true")
    home = tmp_path / "home"
    home.mkdir()
    return {"PATH": str(tools), "HOME": str(home)}


def script(path: Path, body: str) -> None:
    path.write_text(f"#!{shutil.which('bash')}\n{body}\n")
    path.chmod(0o755)


def bootstrap(tmp_path: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    checkout = tmp_path / "checkout"
    checkout.mkdir(exist_ok=True)
    for name in ("bootstrap.sh", "requirements.lock", "setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout / name)
    command = [str(shutil.which("bash")), str(checkout / "bootstrap.sh")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_no_python_is_one_clear_message(tmp_path: Path, bare_machine: dict[str, str]) -> None:
    run = bootstrap(tmp_path, bare_machine)
    assert run.returncode == 1
    assert "no Python >= 3.12" in run.stderr
    assert "VEGA_PYTHON" in run.stderr
    assert not (tmp_path / "checkout" / ".venv").exists()


def test_an_older_python_is_not_taken(tmp_path: Path, bare_machine: dict[str, str]) -> None:
    script(Path(bare_machine["PATH"]) / "python3", "exit 1  # what python3.11 answers to the version probe")
    assert "no Python >= 3.12" in bootstrap(tmp_path, bare_machine).stderr


def test_pyenv_versions_are_found_and_a_missing_gl_stops_before_the_download(
    tmp_path: Path, bare_machine: dict[str, str]
) -> None:
    versions = Path(bare_machine["HOME"]) / ".pyenv" / "versions" / "3.12.9" / "bin"
    versions.mkdir(parents=True)
    script(versions / "python3", "exit 0")
    if any(Path("/dev").glob("nvidia[0-9]*")) or any(Path("/dev").glob("dri/renderD*")):
        pytest.skip("this machine has a GPU device, so EGL may count as present")
    run = bootstrap(tmp_path, bare_machine)
    assert run.returncode == 1
    assert "sudo apt-get install -y libosmesa6" in run.stderr
    assert not (tmp_path / "checkout" / ".venv").exists()


def test_a_second_run_installs_nothing() -> None:
    if not (ROOT / ".venv").exists():
        pytest.skip("not run from a set-up checkout")
    environment = {name: value for name, value in os.environ.items() if name != "VEGA_VENV_CACHE"}
    target = (ROOT / ".venv").resolve()
    if (ROOT / ".venv").is_symlink():
        environment["VEGA_VENV_CACHE"] = str(target.parent)
    run = subprocess.run(
        ["bash", str(ROOT / "bootstrap.sh")], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == ""
