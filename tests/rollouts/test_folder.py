"""The results folder refuses trouble before the first episode and never loses a finished row."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from vega_policy.rollouts.episode import Episode, Task, error_row
from vega_policy.rollouts.files import write_atomically
from vega_policy.rollouts.folder import ResultsFolder, read_rows

RUN = {"config": {"seed": 0, "policy": {"type": "hold"}}, "versions": {"mujoco": "3.3.2"}}


def open_folder(path: Path, run=RUN, resume: bool = False, film_bytes: int = 0) -> ResultsFolder:
    return ResultsFolder(path, run, resume=resume, num_episodes=1, film_bytes=film_bytes)


def a_row(trial: int):
    return error_row(Episode(Task("tiny", 0, "add up"), trial, seed=trial), "line one\nline two", wall_s=0.5)


def test_rows_come_back_as_they_went(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "new" / "folder")
    rows = [a_row(trial) for trial in range(3)]
    for row in rows:
        folder.append(row)
    assert read_rows(folder.path / "episodes.jsonl") == rows


def test_a_torn_last_line_is_left_out_and_a_broken_one_refused(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    folder.append(a_row(0))
    path = tmp_path / "episodes.jsonl"
    whole = path.read_text()
    for torn in ('{"suite": "ti', whole[:-1]):
        path.write_text(whole + torn)
        assert read_rows(path) == [a_row(0)]
    path.write_text('{"suite": "ti\n' + whole)
    with pytest.raises(ValueError, match="line 1 is not an episode"):
        read_rows(path)


def test_results_are_neither_overwritten_nor_mixed(tmp_path: Path) -> None:
    open_folder(tmp_path).append(a_row(0))
    before = (tmp_path / "episodes.jsonl").read_text()
    with pytest.raises(FileExistsError, match="--resume=true"):
        open_folder(tmp_path)
    changed = {"config": {"seed": 1, "policy": {"path": "x"}}, "versions": {"mujoco": "3.3.2"}}
    with pytest.raises(ValueError, match="other conditions") as refusal:
        open_folder(tmp_path, changed, resume=True)
    assert str(refusal.value).splitlines()[1:] == [
        "  config.policy.path: 'absent' became 'x'",
        "  config.policy.type: 'hold' became 'absent'",
        "  config.seed: 0 became 1",
    ]
    assert (tmp_path / "episodes.jsonl").read_text() == before


def test_the_revision_of_every_session_is_kept(tmp_path: Path) -> None:
    def session(revision: str) -> list[str | None]:
        options = {"resume": True, "num_episodes": 1, "film_bytes": 0}
        folder = ResultsFolder(tmp_path, RUN, **options, git_revision=revision)
        folder.append(a_row(0))
        assert (
            json.loads((tmp_path / "run.json").read_text())["git_revisions"]
            == folder.sessions["git_revisions"]
        )
        return folder.sessions["git_revisions"]

    assert session("one") == ["one"]
    assert session("one") == ["one"]
    assert session("two") == ["one", "two"]
    stored = json.loads((tmp_path / "run.json").read_text())
    del stored["git_revisions"]  # as in folders from before they were kept
    (tmp_path / "run.json").write_text(json.dumps(stored))
    assert session("two") == [None, "two"]


def test_resuming_drops_errors(tmp_path: Path) -> None:
    open_folder(tmp_path).append(a_row(0))
    folder = open_folder(tmp_path, resume=True)
    assert folder.rows == {}
    assert read_rows(tmp_path / "episodes.jsonl") == [a_row(0)], "until something is played"
    folder.append(a_row(1))
    assert read_rows(tmp_path / "episodes.jsonl") == [a_row(1)]


def test_resuming_an_empty_folder_starts(tmp_path: Path) -> None:
    assert open_folder(tmp_path / "none", resume=True).rows == {}


@pytest.mark.parametrize("place", ["file/results", "/proc/results"])
def test_an_unwritable_folder_is_refused_with_a_remedy(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=r"cannot write results to .*choose another --output_dir"):
        open_folder(tmp_path / place)


def test_a_full_disk_is_refused_before_the_first_episode(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="MiB left and this run may need"):
        open_folder(tmp_path, film_bytes=10**18)
    assert not (tmp_path / "episodes.jsonl").exists()


def test_documents_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_atomically(path, "old")
    with path.open() as reader:
        write_atomically(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]


def test_two_processes_do_not_write_to_one_folder(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from vega_policy.rollouts.folder import ResultsFolder
folder = ResultsFolder(Path({str(tmp_path)!r}), {{}}, resume=False, num_episodes=1, film_bytes=0)
print("open", flush=True)
sys.stdin.read()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"
    with pytest.raises(FileExistsError, match="another run is writing"):
        open_folder(tmp_path)
    other.communicate()
    open_folder(tmp_path)


def test_assets_may_move_but_not_change(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    folder.confirm_environment({"assets_folder": "/here", "assets_hash": "a"})
    folder.append(a_row(0))
    folder = open_folder(tmp_path, resume=True)
    folder.confirm_environment({"assets_folder": "/there", "assets_hash": "a"})
    with pytest.raises(ValueError, match="assets_hash: 'a' became 'b'"):
        folder.confirm_environment({"assets_folder": "/here", "assets_hash": "b"})


def test_the_device_of_every_session_that_played_is_kept(tmp_path: Path) -> None:
    def session(device: str, trials: Sequence[int]) -> list[str | None]:
        options = {"resume": True, "num_episodes": 2, "film_bytes": 0}
        folder = ResultsFolder(tmp_path, RUN, **options, device=device)
        for trial in trials:
            folder.append(replace(a_row(trial), outcome="success"))
        return folder.sessions["devices"]

    assert session("a GPU", [0]) == ["a GPU"]
    assert session("another", []) == ["a GPU"], "nothing was left to play"
    assert session("another", [1]) == ["a GPU", "another"]
    assert len(read_rows(tmp_path / "episodes.jsonl")) == 2
