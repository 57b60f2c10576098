"""A resumed run is the run that was begun: what was asked for is kept and compared."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from vega_policy.cli import requests
from vega_policy.cli.train import main

REVISION = "0123abc"


class FakeRun:
    """Stands for the training, which these tests do not need."""

    is_main_process = True

    def __init__(self, *_: Any) -> None: ...

    def start(self) -> None: ...


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_dataset: Path) -> list[str]:
    """A run that has begun."""
    monkeypatch.setattr("vega_policy.training.trainer.Run", FakeRun)
    monkeypatch.setattr(requests, "git_revision", lambda: REVISION)
    shutil.copytree(small_dataset, tmp_path / "data")
    begun = [f"--output_dir={tmp_path / 'run'}", "--dataset.repo_id=local/data", "--ema_decay=0.9"]
    begun.append(f"--dataset.root={tmp_path / 'data'}")
    assert main(begun) == 0
    (tmp_path / "run" / "checkpoints" / "000002").mkdir(parents=True)
    return begun


def stored(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "run" / "request.json").read_text())
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--seed=1"], "seed: 0 became 1"),
        (["--batch_size=3"], "batch_size: 64 became 3"),
        (["--policy.fusion.name=none"], "policy.fusion.name: 'gated_residual' became 'none'"),
        (["--policy.optimizer_lr=1"], "policy.optimizer_lr: "),
        (["--ema_decay=0.99"], "ema_decay: 0.9 became 0.99"),
        (["--dataset.repo_id=other/data"], "dataset.repo_id: "),
    ],
)
def test_a_run_is_not_resumed_as_another(
    command: list[str], capsys: pytest.CaptureFixture[str], change: list[str], message: str
) -> None:
    assert main([*command, "--resume=true", *change]) == 2
    assert message in capsys.readouterr().err


def test_a_changed_dataset_is_another_request(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data" / "meta" / "stats.json").write_text("{}")
    assert main([*command, "--resume=true"]) == 2
    assert "dataset_files: " in capsys.readouterr().err


def test_a_dataset_that_the_run_fetches_is_no_other_one(command: list[str], tmp_path: Path) -> None:
    """What it was is not known, as the request was kept before."""
    begun = [option.replace(str(tmp_path / "run"), str(tmp_path / "other")) for option in command]
    film = next((tmp_path / "data").rglob("*.mp4"))
    film.rename(tmp_path / "film")
    assert main(begun) == 0
    (tmp_path / "other" / "checkpoints" / "000002").mkdir(parents=True)
    (tmp_path / "film").rename(film)
    assert main([*begun, "--resume=true"]) == 0
    kept = json.loads((tmp_path / "other" / "request.json").read_text())["dataset_files"]
    assert kept == stored(tmp_path)["dataset_files"] is not None


def test_before_the_first_checkpoint_everything_may_change(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints" / "000002").rmdir()
    assert main([*command, "--resume=true", "--batch_size=3"]) == 0
    assert stored(tmp_path)["batch_size"] == 3


def test_another_number_of_processes_is_another_batch(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert main([*command, "--resume=true"]) == 2
    assert "num_processes: 1 became 4" in capsys.readouterr().err


def test_what_no_weight_depends_on_may_change(command: list[str], tmp_path: Path) -> None:
    free = ["--num_workers=2", "--closed_loop.trials=5", "--cache.root=elsewhere", "--steps=40000"]
    assert main([*command, "--resume=true", *free]) == 0
    assert stored(tmp_path)["steps"] == 40000


def test_the_revision_of_every_session_is_kept(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*command, "--resume=true"]) == 0
    assert stored(tmp_path)["git_revisions"] == [REVISION]
    monkeypatch.setattr(requests, "git_revision", lambda: "456def")
    assert main([*command, "--resume=true"]) == 0
    assert stored(tmp_path)["git_revisions"] == [REVISION, "456def"]


def test_a_request_from_before_the_dataset_and_revisions_were_kept_is_read(
    command: list[str], tmp_path: Path
) -> None:
    newer = ("dataset_files", "num_processes", "git_revisions")
    old = {key: value for key, value in stored(tmp_path).items() if key not in newer}
    (tmp_path / "run" / "request.json").write_text(json.dumps(old))
    assert main([*command, "--resume=true"]) == 0
    assert stored(tmp_path)["git_revisions"] == [None, REVISION]


def test_a_run_from_before_requests_were_kept_goes_on(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "run" / "request.json").unlink()
    assert main([*command, "--resume=true"]) == 0
    assert stored(tmp_path)["git_revisions"] == [None, REVISION]
