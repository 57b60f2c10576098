"""Importing LIBERO asks nothing and leaves nothing; assets and GL backend are found or clearly refused."""

import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from vega_policy.envs.libero import assets as assets_module
from vega_policy.envs.libero import rendering
from vega_policy.envs.libero.assets import ASSETS_VARIABLE, REQUIRED, STANDIN_FOLDER, resolve_assets
from vega_policy.envs.libero.env import LiberoEnv
from vega_policy.envs.libero.installation import MUJOCO_VERSION

SETTLED_HERE = ("LIBERO_CONFIG_PATH", "PYOPENGL_PLATFORM")
"""What this process may have set for itself by importing LIBERO and a renderer."""

IMPORT = """
import os
before = dict(os.environ)
from vega_policy.envs.libero.installation import import_libero, libero_folder
import_libero("libero.libero.utils.download_utils")
print(libero_folder("bddl_files"))
assert dict(os.environ) == before
"""


def run(code: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh home with stdin closed, where LIBERO's prompt would end the process."""
    inherited = {key: value for key, value in os.environ.items() if key not in SETTLED_HERE}
    environment = {**inherited, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), **variables}
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def complete_folder(folder: Path) -> Path:
    for name in REQUIRED:
        (folder / name).mkdir(parents=True)
    return folder


def test_importing_libero_asks_nothing_and_leaves_only_a_cache_file(tmp_path: Path) -> None:
    for _ in ("first", "second"):
        done = run(IMPORT, tmp_path)
        assert done.returncode == 0, done.stderr
        assert Path(done.stdout.strip()).is_dir(), "the folder, and no chatter"
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["config.yaml"]


def test_an_unwritable_cache_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    done = run(IMPORT, tmp_path, TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("place", ["home", "variable"])
def test_a_users_config_is_respected(tmp_path: Path, place: str) -> None:
    folder = tmp_path / (".libero" if place == "home" else "elsewhere")
    tasks = tmp_path / "my_tasks"
    for path in (folder, tasks):
        path.mkdir()
    (folder / "config.yaml").write_text(f"bddl_files: {tasks}\n")
    variables = {} if place == "home" else {"LIBERO_CONFIG_PATH": str(folder)}
    done = run(IMPORT, tmp_path, **variables)
    assert done.stdout.strip() == str(tasks), done.stderr
    assert not (tmp_path / "cache").exists()


def test_a_config_with_a_missing_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / ".libero").mkdir()
    (tmp_path / ".libero" / "config.yaml").write_text("bddl_files: /gone\n")
    done = run(IMPORT, tmp_path)
    assert "config.yaml names /gone for 'bddl_files'" in done.stderr


class Hub:
    """Stands in for the Hub: what the cache and the network would answer."""

    def __init__(self, cached: Path | None = None, online: Path | None = None) -> None:
        self.answers = {True: cached, False: online}
        self.downloads = 0

    def snapshot_download(self, repo_id: str, *, repo_type: str, local_files_only: bool) -> str:
        assert (repo_id, repo_type) == ("lerobot/libero-assets", "dataset")
        self.downloads += not local_files_only
        answer = self.answers[local_files_only]
        if answer is None:
            raise LocalEntryNotFoundError("nothing cached, and no network")
        return str(answer)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    monkeypatch.delenv(ASSETS_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return hub


def test_an_explicit_folder_wins_then_the_variable_then_the_cache_then_the_kit(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert resolve_assets("auto").kind == "standin"
    hub.answers[True] = complete_folder(tmp_path / "cached")
    assert resolve_assets("auto").folder == tmp_path / "cached"
    monkeypatch.setenv(ASSETS_VARIABLE, str(complete_folder(tmp_path / "named")))
    assert resolve_assets("auto").folder == tmp_path / "named"
    assert resolve_assets(complete_folder(tmp_path / "given")).folder == tmp_path / "given"
    assert resolve_assets("standin").folder == STANDIN_FOLDER.resolve()
    assert hub.downloads == 0


def test_only_official_downloads_and_only_when_nothing_is_there(hub: Hub, tmp_path: Path) -> None:
    hub.answers[False] = complete_folder(tmp_path / "downloaded")
    assert resolve_assets("official").folder == tmp_path / "downloaded"
    assert hub.downloads == 1
    hub.answers[True] = tmp_path / "downloaded"
    assert resolve_assets("official").kind == "official"
    assert hub.downloads == 1


def test_official_assets_that_are_nowhere_are_an_error_that_helps(hub: Hub) -> None:
    with pytest.raises(FileNotFoundError, match=r"LIBERO_ASSETS is not set.*assets=standin"):
        resolve_assets("official")


def test_an_incomplete_folder_is_refused(tmp_path: Path) -> None:
    complete_folder(tmp_path / "half")
    (tmp_path / "half" / "scenes").rmdir()
    with pytest.raises(ValueError, match="not a folder of LIBERO assets: scenes missing"):
        resolve_assets(tmp_path / "half")


def test_the_content_hash_follows_the_content(tmp_path: Path) -> None:
    one, two = complete_folder(tmp_path / "one"), complete_folder(tmp_path / "two")
    (one / "scenes" / "a.xml").write_text("<mujoco/>")
    (two / "scenes" / "a.xml").write_text("<mujoco/>")
    assert resolve_assets(one).content_hash == resolve_assets(two).content_hash
    (two / "scenes" / "b.xml").write_text("<mujoco/>")
    assets_module._hash_folder.cache_clear()
    assert resolve_assets(one).content_hash != resolve_assets(two).content_hash


def test_what_a_download_notes_of_itself_is_no_content(tmp_path: Path) -> None:
    folder = complete_folder(tmp_path / "assets")
    before = resolve_assets(folder).content_hash
    note = folder / ".cache" / "huggingface" / "download" / "scene.metadata"
    note.parent.mkdir(parents=True)
    note.write_text("1763912345.6")
    assets_module._hash_folder.cache_clear()
    assert resolve_assets(folder).content_hash == before


@pytest.mark.sim
@pytest.mark.official
@pytest.mark.skipif(ASSETS_VARIABLE not in os.environ, reason="needs LIBERO_ASSETS")
def test_both_kinds_of_assets_live_in_one_process() -> None:
    envs = [LiberoEnv("libero_object", 0, assets=kind, images=False) for kind in ("official", "standin")]
    for env in (*envs, *envs):
        env.reset(seed=0)
    official, standin = (env.sim.model.nmeshvert for env in envs)
    assert official > 3 * standin
    kinds = [env.provenance()["assets"] for env in envs]
    hashes = {env.provenance()["assets_hash"] for env in envs}
    assert (kinds, len(hashes)) == (["official", "standin"], 2)
    for env in envs:
        env.close()


def test_the_lock_holds_one_opencv_and_nothing_that_libero_only_trains_with() -> None:
    """Two OpenCV distributions overwrite each other's files; egl-probe needs a compiler."""
    lock = (Path(__file__).parents[2] / "requirements.lock").read_text()
    names = {line.partition("==")[0].strip().lower().replace("_", "-") for line in lock.splitlines()}
    assert {name for name in names if name.startswith("opencv")} == {"opencv-python-headless"}
    assert not names & {"robomimic", "egl-probe", "hf-egl-probe"}
    assert f"mujoco=={MUJOCO_VERSION}" in lock


def test_the_users_gl_backend_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glx")
    assert rendering.choose_gl_backend() == "glx"


@pytest.mark.parametrize(("devices", "backend"), [((), "osmesa"), (("null",), "egl")])
def test_unset_gl_is_egl_with_a_gpu_and_osmesa_without(
    monkeypatch: pytest.MonkeyPatch, devices: tuple[str, ...], backend: str
) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering, "GL_DEVICES", devices)
    assert rendering.choose_gl_backend() == backend


@pytest.mark.parametrize("visible", ["", "-1"])
def test_where_all_gpus_are_hidden_the_cpu_draws(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering, "GL_DEVICES", ("null",))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert rendering.choose_gl_backend() == "osmesa"


def test_a_gpu_named_by_its_uuid_is_refused_before_the_first_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.delenv("MUJOCO_EGL_DEVICE_ID", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5e1f")
    with pytest.raises(RuntimeError, match=r"expects numbers .* got 'GPU-5e1f'.*MUJOCO_GL=osmesa"):
        rendering.prepare_gl()


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ("import robosuite", "robosuite was imported with the osmesa backend, but egl is wanted"),
        ("import mujoco.osmesa", "OpenGL was imported for osmesa"),
    ],
)
def test_a_backend_chosen_too_late_is_named(tmp_path: Path, first: str, message: str) -> None:
    code = f"""
{first}
import os
os.environ["MUJOCO_GL"] = "egl"
from vega_policy.envs.libero.rendering import prepare_gl
prepare_gl()
"""
    done = run(code, tmp_path, MUJOCO_GL="osmesa")
    assert done.returncode == 1
    assert message in done.stderr
