"""`vega-doctor`: says line by line whether this machine can run LIBERO and the policy, and how to mend it.

Every check answers a complaint users of LIBERO really have. Rendering is tried in a subprocess, because a
broken GL driver ends the process instead of raising.
"""

import argparse
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MUJOCO_VERSION = "3.3.2"
"""Later ones render LIBERO-Object's floor darker (3.3.3) and unseat the bowl from the ramekin (3.4.0)."""

MINIMUM_PYTHON = (3, 12)

RENDER_PROBE = """
import mujoco
scene = "<mujoco><worldbody><light pos='0 0 3'/><geom size='.2'/></worldbody></mujoco>"
model = mujoco.MjModel.from_xml_string(scene)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    assert renderer.render().max() > 0, "the picture is black"
"""


@dataclass(frozen=True)
class Finding:
    """One line of the report; `fix` is what to do when `state` is not ok."""

    name: str
    state: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""

    def __str__(self) -> str:
        """`[ ok ] name: detail`, with the fix on a line of its own."""
        line = f"[{self.state:^4}] {self.name}: {self.detail}"
        return line if self.state == "ok" else f"{line}\n         fix: {self.fix}"


def check_python() -> Finding:
    """LeRobot 0.6 needs Python 3.12."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= MINIMUM_PYTHON:
        return Finding("python", "ok", version)
    return Finding(
        "python", "fail", version, "run `make setup`: it looks for a Python >= 3.12 and makes .venv with it"
    )


def check_torch() -> Finding:
    """Torch imports, and says which device it would use."""
    try:
        import torch
    except ImportError as error:
        return Finding("torch", "fail", str(error), "run `make setup`")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device, the CPU is used"
    return Finding("torch", "ok", f"{torch.__version__} ({device})")


def check_mujoco() -> Finding:
    """The simulator is the version that LIBERO's published results were made with."""
    version = installed_version("mujoco")
    if version == MUJOCO_VERSION:
        return Finding("mujoco", "ok", version)
    detail = f"{version or 'missing'}, but results are comparable with {MUJOCO_VERSION} only"
    return Finding("mujoco", "fail", detail, f"pip install mujoco=={MUJOCO_VERSION}")


def check_gl() -> Finding:
    """A picture can be rendered off screen."""
    from vega_policy.envs.libero.rendering import choose_gl_backend

    backend = choose_gl_backend()
    command = [sys.executable, "-c", RENDER_PROBE]
    run = subprocess.run(
        command, env={**os.environ, "MUJOCO_GL": backend}, capture_output=True, text=True, check=False
    )
    if run.returncode == 0:
        return Finding("gl", "ok", f"MUJOCO_GL={backend} renders")
    last_line = (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
    fix = "sudo apt-get install -y libosmesa6, then MUJOCO_GL=osmesa"
    return Finding("gl", "fail", f"MUJOCO_GL={backend} cannot render: {last_line}", fix)


def check_cv2() -> Finding:
    """Exactly one OpenCV: two distributions overwrite each other's files and ask for libGL."""
    names = ("opencv-python", "opencv-python-headless", "opencv-contrib-python")
    found = [name for name in names if installed_version(name)]
    if found == ["opencv-python-headless"]:
        return Finding("cv2", "ok", f"opencv-python-headless {installed_version('opencv-python-headless')}")
    fix = "pip uninstall -y opencv-python opencv-contrib-python opencv-python-headless && make setup"
    return Finding("cv2", "fail" if not found else "warn", f"installed: {', '.join(found) or 'none'}", fix)


def check_libero_config() -> Finding:
    """LIBERO's config file names folders that exist; without a file ours is used and nothing prompts."""
    import yaml

    folder = Path(os.environ.get("LIBERO_CONFIG_PATH", "~/.libero")).expanduser()
    file = folder / "config.yaml"
    if not file.is_file():
        return Finding(
            "libero config", "ok", f"{file} is not there; vega_policy brings its own, without a prompt"
        )
    paths = yaml.safe_load(file.read_text()) or {}
    needed = ("bddl_files", "init_states")
    missing = [key for key in needed if key not in paths or not Path(paths[key]).is_dir()]
    if not missing:
        return Finding("libero config", "ok", str(file))
    detail = f"{file} names folders that do not exist: {', '.join(missing)}"
    return Finding("libero config", "fail", detail, f"rm {file}  (vega_policy brings its own)")


def check_assets() -> Finding:
    """Which pictures and shapes LIBERO's objects get."""
    from vega_policy.envs.libero.assets import resolve_assets

    try:
        assets = resolve_assets("auto")
    except (ValueError, OSError) as error:
        return Finding("assets", "fail", str(error), "set LIBERO_ASSETS to a complete folder, or unset it")
    if assets.kind == "official":
        return Finding("assets", "ok", f"official, in {assets.folder}")
    detail = "stand-in kit (official assets not found); success rates are not comparable with published ones"
    return Finding(
        "assets",
        "warn",
        detail,
        "set LIBERO_ASSETS=/path/to/libero/assets, or use --assets=official to download",
    )


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_torch,
    check_mujoco,
    check_gl,
    check_cv2,
    check_libero_config,
    check_assets,
)


def installed_version(distribution: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def examine(checks: tuple[Callable[[], Finding], ...] = CHECKS) -> Iterator[Finding]:
    """Runs each check; one that raises is a failed check, not the end of the report."""
    for check in checks:
        try:
            yield check()
        except Exception as error:  # a doctor reports whatever it meets
            name = check.__name__.removeprefix("check_").replace("_", " ")
            yield Finding(name, "fail", f"{type(error).__name__}: {error}", "run `make setup`")


def main() -> None:
    """Prints the findings; exit code 1 if any check failed."""
    argparse.ArgumentParser(prog="vega-doctor", description=__doc__).parse_args()
    failed = False
    for finding in examine():
        print(finding, flush=True)
        failed |= finding.state == "fail"
    sys.exit(failed)


if __name__ == "__main__":
    main()
