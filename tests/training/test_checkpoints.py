"""Checkpoints appear whole or not at all, at whatever moment a run is killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from small_data import make_policy_config
from small_runs import settings

from vega_policy.modeling_vega import VegaPolicy
from vega_policy.training.checkpoints import link_last, newest_checkpoint, remove_unfinished
from vega_policy.training.trainer import Run

SCRIPT = """
import pathlib, sys, time
from vega_policy.training import checkpoints
from vega_policy.training.trainer import Run
dataset, output_dir, tests, resume = sys.argv[1:]
sys.path.insert(0, tests)
import small_data, small_runs
whole = checkpoints.save_checkpoint
def torn(checkpoint_dir, step, **parts):
    whole(checkpoint_dir=checkpoint_dir, step=step, **parts)
    if step == 2 and not resume:
        (checkpoint_dir / "training_state" / "training_step.json").unlink()
        print("torn", flush=True)
        time.sleep(600)
checkpoints.save_checkpoint = torn
folders = pathlib.Path(dataset), pathlib.Path(output_dir)
policy = small_data.make_policy_config()
Run(small_runs.settings(folders[0], policy, folders[1], save_freq=1, resume=bool(resume))).start()
"""


def test_a_killed_run_leaves_its_last_complete_checkpoint(small_dataset: Path, tmp_path: Path) -> None:
    """The process is killed while a checkpoint is being written; another one goes on."""
    run = tmp_path / "run"
    command = [sys.executable, "-c", SCRIPT, str(small_dataset), str(run), str(Path(__file__).parent)]
    process = subprocess.Popen([*command, ""], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert any("torn" in line for line in process.stdout)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    checkpoint = newest_checkpoint(run)
    assert checkpoint is not None
    assert checkpoint.name == "000001"
    assert (run / "checkpoints" / ".000002.partial").exists()
    assert (run / "checkpoints" / "last").resolve() == checkpoint
    VegaPolicy.from_pretrained(checkpoint / "pretrained_model")
    subprocess.run([*command, "resume"], check=True)
    found = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert found == ["000001", "000002", "000003", "000004", "last"]


def test_a_run_that_begins_leaves_what_is_not_its_own(small_dataset: Path, tmp_path: Path) -> None:
    """`--resume=true` in a folder without a checkpoint begins, also where somebody else's files lie."""
    logs = tmp_path / "run" / "logs"
    logs.mkdir(parents=True)
    for name in ("notes.txt", "events.out.tfevents.1.old"):
        (logs / name).touch()
    Run(settings(small_dataset, make_policy_config(), tmp_path / "run", steps=1, resume=True)).start()
    assert (logs / "notes.txt").is_file()
    assert not (logs / "events.out.tfevents.1.old").exists()


def test_the_last_link_changes_in_one_step(tmp_path: Path) -> None:
    for name in ("000001", "000002"):
        (tmp_path / name).mkdir()
        link_last(tmp_path / name)
        assert (tmp_path / "last").resolve().name == name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000001", "000002", "last"]


def test_unfinished_checkpoints_are_removed(tmp_path: Path) -> None:
    for name in ("000002", ".000004.partial", "000004.partial", ".000002.old.partial"):
        (tmp_path / "checkpoints" / name / "pretrained_model").mkdir(parents=True)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoints" / "000002"
    remove_unfinished(tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["000002"]
