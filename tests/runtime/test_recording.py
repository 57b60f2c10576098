"""Recordings: what was written can be read, whatever ended it, and becomes a LeRobotDataset."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recorded import record, report

from vega_policy.runtime.faults import SafeAction
from vega_policy.runtime.loop import TickReport
from vega_policy.runtime.recording import RecordingError
from vega_policy.runtime.recordings import read_robot_recording, recordings_to_dataset
from vega_policy.runtime.safety import Decision, Memory


def test_deployments_become_a_dataset_that_lerobot_reads(tmp_path: Path) -> None:
    from lerobot.datasets import LeRobotDataset

    for name in ("run0", "run1"):
        record(tmp_path / name, 10).close()
    assert recordings_to_dataset([tmp_path / "run0", tmp_path / "run1"], tmp_path / "dataset") == 2
    dataset = LeRobotDataset("local/dataset", root=tmp_path / "dataset")
    assert (dataset.num_episodes, dataset.num_frames, dataset.fps) == (2, 20, 20)
    first, held = dataset[3], dataset[17]
    assert first["task"] == "pick up the bowl"
    np.testing.assert_allclose(first["action"], [0.5, 0, 0, 0, 0, 0, 1.0], atol=1e-6)
    np.testing.assert_allclose(held["action"], [0, 0, 0, 0, 0, 0, 1.0], atol=1e-6)
    np.testing.assert_allclose(first["policy_action"], np.full(7, 0.25))
    np.testing.assert_allclose(first["control"], [0.15, 1, 1, 0, 1, 0, 0.01, 0.02], atol=1e-5)
    np.testing.assert_allclose(held["control"], [0.35, 1, 0, 2, 1, 1, 0.01, 0.02], atol=1e-5)
    assert first["observation.state"].shape == (8,)
    grey = first["observation.images.image"].numpy() * 255
    np.testing.assert_allclose(grey, np.full((3, 32, 32), 15), atol=4)


CRASH = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from recorded import record
recorder = record(Path(sys.argv[2]), 60)
while len((Path(sys.argv[2]) / "ticks.jsonl").read_text().splitlines()) < 60:
    time.sleep(0.01)
print("written", flush=True)
time.sleep(600)
"""


def test_a_process_that_is_killed_leaves_a_readable_recording(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = [sys.executable, "-c", CRASH, str(Path(__file__).parent), str(folder)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    with (folder / "ticks.jsonl").open("a") as lines:
        lines.write('{"now_s": 10')  # a line that was cut off
    recording = read_robot_recording(folder)
    assert 50 <= len(recording.rows) <= 60, "at most the last cluster of a film is lost"
    assert recordings_to_dataset([folder], tmp_path / "dataset") == 1


FULL_DISK = """
import resource, sys
sys.path.insert(0, sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
from pathlib import Path
import recorded
recorded.fill(Path(sys.argv[2]))
"""


def test_a_full_disk_ends_the_recording_and_what_was_written_is_readable(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = [sys.executable, "-c", FULL_DISK, str(Path(__file__).parent), str(folder)]
    run = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    assert "let go: the recording has ended" in run.stdout, run.stderr
    recording = read_robot_recording(folder)
    assert len(recording.rows) >= 2
    assert recordings_to_dataset([folder], tmp_path / "dataset") == 1


def test_a_disk_that_cannot_keep_up_is_an_error_and_not_a_wait(tmp_path: Path) -> None:
    recorder = record(tmp_path / "run", 0)
    recorder._ticks.put(None)  # the thread ends: nothing takes ticks any more
    recorder._thread.join()
    for index in range(200):
        recorder.watch(report(index))
    with pytest.raises(RecordingError, match="200 ticks behind"):
        recorder.watch(report(200))
    recorder.close()


def test_recordings_of_different_robots_are_not_mixed(tmp_path: Path) -> None:
    record(tmp_path / "run0", 4).close()
    record(tmp_path / "run1", 4, size_px=64).close()
    with pytest.raises(ValueError, match="expected recordings of one picture size"):
        recordings_to_dataset([tmp_path / "run0", tmp_path / "run1"], tmp_path / "dataset")


def test_a_tick_without_an_answer_of_the_robot_has_no_row(tmp_path: Path) -> None:
    recorder = record(tmp_path / "run", 3)
    silent = TickReport(200.0, None, None, Decision(None, SafeAction.STOP, (), (), Memory()), None)
    recorder.watch(silent)
    recorder.close()
    assert len(read_robot_recording(tmp_path / "run").rows) == 3
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts == {"task": "pick up the bowl", "rate_hz": 20.0, "image_size_px": 32}
