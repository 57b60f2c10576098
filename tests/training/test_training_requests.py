"""What is wrong with a request to train is said before anything is written."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_runs import settings

from vega_policy.checkpoints import shipped
from vega_policy.cli.train import main
from vega_policy.configuration_vega import VegaConfig
from vega_policy.training.config import pipeline
from vega_policy.training.libero_data import IMAGE_KEYS

EVERY_SECOND = ["--closed_loop.every=2", "--save_freq=2", "--closed_loop.assets=standin"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output_dir=."], "--resume=true"),
        (["--closed_loop.first_trial=-1"], "first_trial"),
        (["--closed_loop.trials=0"], "closed_loop.trials"),
        ([*EVERY_SECOND, "--closed_loop.suite=libero_spatail"], "did you mean 'libero_spatial'?"),
        ([*EVERY_SECOND, "--closed_loop.trials=20"], "the number of init states"),
        (["--eval_freq=2"], "eval_split"),
        (["--init_from=/nowhere"], "/nowhere"),
        (["--closed_loop.every=3", "--save_freq=2"], "closed_loop.every"),
        (
            ["--cache.enabled=true", "--dataset.image_transforms.enable=true", "--dataset.repo_id=a/b"],
            "image_transforms",
        ),
        (["--dataset.streaming=true", "--dataset.repo_id=a/b"], "dataset.streaming"),
        (["--ema_decay=1"], "--ema_decay in [0, 1)"),
        ([], "a folder as root, or a repo_id on the Hub"),
        (["--dataset.root=/nowhere"], "expected a LeRobotDataset in /nowhere"),
        (["--stepps=3"], "did you mean --steps?"),
        (["--steps=0"], "--steps"),
    ],
)
def test_mistakes_end_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    try:
        code = main([f"--output_dir={tmp_path}/run", *options])
    except SystemExit as end:
        code = end.code  # type: ignore[assignment]
    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "option", "message"),
    [
        ({"fps": 30}, "--cache.enabled=false", "fps 20"),
        ({"dtype": "image"}, "--cache.enabled=true", "convert_image_to_video"),
    ],
)
def test_an_unfit_dataset_is_a_mistake_in_the_request(
    small_dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    option: str,
    message: str,
) -> None:
    shutil.copytree(small_dataset / "meta", tmp_path / "data" / "meta")
    file = tmp_path / "data" / "meta" / "info.json"
    info = json.loads(file.read_text())
    info["fps"] = changes.get("fps", info["fps"])
    for key in IMAGE_KEYS.values():
        info["features"][key]["dtype"] = changes.get("dtype", "video")
    file.write_text(json.dumps(info))
    data = [f"--dataset.root={tmp_path / 'data'}", "--dataset.repo_id=local/data"]
    assert main([f"--output_dir={tmp_path / 'run'}", *data, option]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_shipped_checkpoint_is_a_start(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path
) -> None:
    finer = replace(small_policy, proprioception_octaves=3)
    made = pipeline(settings(small_dataset, finer, tmp_path / "run", init_from="vega-tiny"))
    assert made.policy is not None
    assert made.policy.proprioception_octaves == 3
    assert Path(str(made.policy.pretrained_path)) == shipped("vega-tiny")
    assert made.policy.optimizer_lr == small_policy.optimizer_lr


def test_a_second_run_in_the_same_folder_is_refused(
    small_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    torn = folder / "checkpoints" / ".000002.partial"
    torn.mkdir(parents=True)
    code = "import sys; from pathlib import Path; from vega_policy.rollouts.files import lock_folder\n"
    code += "lock = lock_folder(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        data = [f"--dataset.root={small_dataset}", "--dataset.repo_id=local/data"]
        assert main([f"--output_dir={folder}", *data, "--resume=true"]) == 2
    assert "another run is writing" in capsys.readouterr().err
    assert torn.exists(), "the first run is writing it"


def test_a_run_that_began_without_wandb_is_not_resumed_with_it(
    small_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run" / "checkpoints" / "last").mkdir(parents=True)
    data = [f"--dataset.root={small_dataset}", "--dataset.repo_id=local/data"]
    assert main([f"--output_dir={tmp_path / 'run'}", *data, "--resume=true", "--wandb.enable=true"]) == 2
    assert "--wandb.run_id" in capsys.readouterr().err
