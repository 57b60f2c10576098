"""Recordings: what was written can be read, whatever ended it, and becomes a LeRobotDataset."""

import json
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_arm import state
from recorded import record, report

from vega_policy.cli.recordings import next_recording
from vega_policy.runtime.chunks import PlayedRow
from vega_policy.runtime.faults import Fault, FaultKind, SafeAction
from vega_policy.runtime.loop import TickReport
from vega_policy.runtime.recording import MAX_TICKS_WAITING, RecordingError
from vega_policy.runtime.recordings import (
    read_robot_recording,
    recordings_to_dataset,
    refuse_unrecordable,
)
from vega_policy.runtime.robots.base import Reading
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


def test_a_tick_in_which_the_arm_did_not_say_where_it_is_has_a_line_of_its_own(tmp_path: Path) -> None:
    recorder = record(tmp_path / "run", 3)
    fault = Fault(FaultKind.ROBOT_SILENT, 200.0)
    decision = Decision(None, SafeAction.STOP, (), (fault,), Memory())
    recorder.watch(TickReport(200.0, None, None, decision, None))
    nowhere = replace(state(200.05), rotation=np.full((3, 3), np.nan))
    recorder.watch(TickReport(200.05, Reading(nowhere, {}), None, decision, None))
    recorder.watch(report(3))
    recorder.close()
    assert len(read_robot_recording(tmp_path / "run").rows) == 4
    unseen = [json.loads(line) for line in (tmp_path / "run" / "unseen.jsonl").read_text().splitlines()]
    assert [row["now_s"] for row in unseen] == [200.0, 200.05]
    assert unseen[0]["new_faults"] == [str(fault)]
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts == {"task": "pick up the bowl", "rate_hz": 20.0, "image_size_px": 32}


def test_before_the_first_command_the_gripper_is_recorded_as_it_was_measured(tmp_path: Path) -> None:
    recorder = record(tmp_path / "run", 0)
    for index, is_held in enumerate((True, True, False, True)):
        recorder.watch(report(index, is_held=is_held))
    recorder.close()
    grippers = [row["action"][6] for row in read_robot_recording(tmp_path / "run").rows]
    assert grippers == pytest.approx([-1.0, -1.0, 1.0, 1.0]), "open, as it stood; then closed, as it was told"


def test_a_torn_recording_does_not_keep_the_others_from_the_dataset(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(tmp_path / "run0", 4).close()
    for name in ("run1", "run2"):
        (tmp_path / name).mkdir()
    (tmp_path / "run1" / "run.json").write_text('{"task": ')
    folders = [tmp_path / f"run{index}" for index in range(3)]
    assert recordings_to_dataset(folders, tmp_path / "dataset") == 1
    assert [name in caplog.text for name in ("run0", "run1", "run2")] == [False, True, True]


class FailsWhenTold:
    """An action that cannot be written, and that holds the writer up until it may fail."""

    def __init__(self) -> None:
        self.is_reached, self.may_fail = threading.Event(), threading.Event()

    def tolist(self) -> list[float]:
        self.is_reached.set()
        self.may_fail.wait(30)
        raise OSError("no space left on device")


def test_a_recorder_whose_disk_fails_while_its_queue_is_full_can_be_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, action = record(tmp_path / "run", 0), FailsWhenTold()
    recorder.watch(replace(report(0), played=PlayedRow(action, 0.0)))  # type: ignore[arg-type]
    assert action.is_reached.wait(30)
    for _ in range(MAX_TICKS_WAITING):
        recorder.watch(report(1))
    put = recorder._ticks.put

    def put_as_the_disk_fails(item: None) -> None:
        action.may_fail.set()
        put(item)

    monkeypatch.setattr(recorder._ticks, "put", put_as_the_disk_fails)
    closing = threading.Thread(target=recorder.close, daemon=True)
    closing.start()
    closing.join(60)
    assert not closing.is_alive()


def test_the_next_recording_has_a_number_of_its_own(tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    assert next_recording(dataset).name == "run00000"
    for name in ("run00000", "run00002", "run_notes"):
        (tmp_path / "dataset.recordings" / name).mkdir(parents=True)
    assert next_recording(dataset).name == "run00003"


@pytest.mark.parametrize(
    ("rate_hz", "cameras"), [(10.0, ["image", "image2"]), (20.0, ["image"]), (20.0, ["front", "wrist"])]
)
def test_an_arm_that_a_dataset_cannot_hold_is_refused_before_the_run(
    rate_hz: float, cameras: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="expected an arm at 20 Hz with the cameras image, image2"):
        refuse_unrecordable(tmp_path / "dataset", rate_hz, cameras, 32, [])


def test_pictures_of_another_size_than_before_are_refused_before_the_run(tmp_path: Path) -> None:
    record(tmp_path / "run0", 4).close()
    record(tmp_path / "run1", 0, size_px=64).close()
    earlier, cameras = [tmp_path / "run0", tmp_path / "run1"], ["image", "image2"]
    refuse_unrecordable(tmp_path / "dataset", 20.0, cameras, 32, earlier)
    with pytest.raises(ValueError, match=r"expected pictures of 32 px, as in .*run0, got 64"):
        refuse_unrecordable(tmp_path / "dataset", 20.0, cameras, 64, earlier)


def test_a_dataset_of_something_else_is_not_written_over(tmp_path: Path) -> None:
    collected = tmp_path / "collected" / "meta"
    collected.mkdir(parents=True)
    (collected / "provenance.json").write_text('{"environment": {}}')
    with pytest.raises(FileExistsError, match="dataset made of recordings"):
        refuse_unrecordable(tmp_path / "collected", 20.0, ["image", "image2"], 32, [])
    record(tmp_path / "run0", 4).close()
    with pytest.raises(FileExistsError, match="dataset made of recordings"):
        recordings_to_dataset([tmp_path / "run0"], tmp_path / "collected")
    for _ in range(2):
        recordings_to_dataset([tmp_path / "run0"], tmp_path / "ours")
    refuse_unrecordable(tmp_path / "ours", 20.0, ["image2", "image"], 32, [])
