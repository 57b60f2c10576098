"""Whole evaluations of a tiny world in real worker processes: order, faults, resume, interruption."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_world import TASKS, TinyWorld, run

from vega_policy.rollouts.baselines import MakeRandom
from vega_policy.rollouts.episode import Row
from vega_policy.rollouts.evaluate import plan
from vega_policy.rollouts.folder import read_rows
from vega_policy.rollouts.stage import Job
from vega_policy.rollouts.workers import AllFailingError, Schedule, play

TIMINGS = ("wall_s", "env_s", "policy_s")


def rows_of(folder: Path) -> dict[tuple[str, int, int], Row]:
    return {row.key: row for row in read_rows(folder / "episodes.jsonl")}


def without_timings(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    kept = [{key: value for key, value in row.items() if key not in TIMINGS} for row in rows]
    return sorted(kept, key=lambda row: (row["suite"], row["task_id"], row["trial"]))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a run in which nothing goes wrong."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder)
    return folder


def test_all_outcomes_are_kept_and_summed(undisturbed: Path) -> None:
    rows = rows_of(undisturbed)
    assert len(rows) == 12
    assert {row.outcome for row in rows.values()} == {"success", "failure"}
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert summary["comparable"] is True
    assert summary["overall"]["successes"] == sum(row.outcome == "success" for row in rows.values())
    assert summary["suites"]["tiny"]["episodes"] == 8
    assert [task["task_id"] for task in summary["suites"]["tiny"]["tasks"]] == [0, 1]
    assert summary["provenance"]["assets"] == "tiny"
    steps = sum(row.steps for row in rows.values())
    assert summary["throughput"]["control_steps_per_s"] == pytest.approx(
        steps / summary["throughput"]["elapsed_s"]
    )


def test_rows_do_not_depend_on_order_or_number_of_workers(undisturbed: Path, tmp_path: Path) -> None:
    run(tmp_path / "one", num_workers=1)
    assert without_timings(tmp_path / "one") == without_timings(undisturbed)
    run(tmp_path / "parts", range(2), num_workers=3)
    shared = [row for row in without_timings(undisturbed) if row["trial"] < 2]
    assert without_timings(tmp_path / "parts") == shared


def test_a_worker_keeps_its_environment_within_a_task(tmp_path: Path) -> None:
    run(tmp_path / "results", range(6), world=TinyWorld(marks=tmp_path), num_workers=1)
    assert len((tmp_path / "built").read_text().splitlines()) == len(TASKS)


@pytest.mark.parametrize("fault", ["raise", "kill", "hang"])
def test_a_passing_fault_leaves_no_trace(undisturbed: Path, tmp_path: Path, fault: str) -> None:
    world = TinyWorld({(0, 1): fault}, once=True, marks=tmp_path)
    summary = run(tmp_path / "results", world=world, limit_s=4.0 if fault == "hang" else 60.0)
    assert (tmp_path / "0_1").read_text() == "xx"
    assert summary["overall"]["errors"] == 0
    assert without_timings(tmp_path / "results") == without_timings(undisturbed)


def test_lasting_faults_cost_their_episodes_only(undisturbed: Path, tmp_path: Path) -> None:
    world = TinyWorld({(0, 1): "raise", (1, 2): "kill", (1, 3): "hang"}, marks=tmp_path)
    summary = run(tmp_path / "results", world=world, limit_s=4.0)
    rows = rows_of(tmp_path / "results")
    errors = {key: row.error for key, row in rows.items() if row.outcome == "error"}
    assert errors.keys() == {("tiny", 0, 1), ("tiny", 1, 2), ("tiny", 1, 3)}
    assert "Traceback" in errors["tiny", 0, 1]
    assert "the cabinet of trial 1 fell over" in errors["tiny", 0, 1]
    assert "died with exit code -9" in errors["tiny", 1, 2]
    assert "no sign of life for" in errors["tiny", 1, 3]
    assert all((tmp_path / mark).read_text() == "xx" for mark in ("0_1", "1_2", "1_3"))
    assert summary["comparable"] is False
    assert summary["suites"]["tiny"]["errors"] == 3
    played = summary["overall"]["successes"] + summary["overall"]["failures"]
    assert summary["overall"]["success_rate"] == summary["overall"]["successes"] / played
    sound = {key: row.outcome for key, row in rows_of(undisturbed).items() if key not in errors}
    assert {key: row.outcome for key, row in rows.items() if key not in errors} == sound


def test_a_run_in_which_nothing_comes_to_an_end_is_given_up(tmp_path: Path) -> None:
    faults = {(task_id, trial): "raise" for task_id in range(2) for trial in range(4)}
    job = Job(TinyWorld(faults=faults), MakeRandom(), tmp_path)
    played: list[Row] = []
    episodes = plan(TASKS[:2], range(4), 0, 0)
    with pytest.raises(AllFailingError, match=r"(?s)first 5 episodes all .* fell over"):
        played.extend(
            play(Schedule(episodes), job, num_workers=2, time_limit_s=60.0, on_built=lambda _: None)
        )
    assert [row.outcome for row in played] == ["error"] * 5


def test_after_an_error_the_process_is_another(tmp_path: Path) -> None:
    """What went wrong may be in the process: a device that answers nothing but errors, say."""
    run(tmp_path / "results", world=TinyWorld({(0, 1): "raise"}, marks=tmp_path), num_workers=1)
    first, *others = [line.split()[0] for line in (tmp_path / "built").read_text().splitlines()]
    assert others
    assert first not in others


def test_resume_plays_what_is_missing_and_what_went_wrong(undisturbed: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    run(results, world=TinyWorld({(0, 1): "raise"}))
    lines = (results / "episodes.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["suite"] == "tiny"]
    (results / "episodes.jsonl").write_text("".join(kept) + kept[0][:40])
    summary = run(results, world=TinyWorld(marks=tmp_path), resume=True, num_workers=1)
    assert summary["comparable"] is True
    assert summary["throughput"]["episodes"] == 5  # four of suite small, one error
    assert without_timings(results) == without_timings(undisturbed)


def test_resuming_a_complete_run_plays_nothing(undisturbed: Path, tmp_path: Path) -> None:
    before = json.loads((undisturbed / "summary.json").read_text())
    assert run(undisturbed, world=TinyWorld(marks=tmp_path), resume=True) == before
    assert not (tmp_path / "built").exists()


def test_environments_of_another_origin_are_not_mixed_in(tmp_path: Path) -> None:
    run(tmp_path, world=TinyWorld({(0, 1): "raise"}))
    with pytest.raises(ValueError, match=r"environment\.assets: 'tiny' became 'others'"):
        run(tmp_path, world=TinyWorld(assets="others"), resume=True)


def test_films_are_written_for_the_first_trials(tmp_path: Path) -> None:
    import imageio.v2

    run(tmp_path, range(3), num_videos=2, world=TinyWorld({(0, 0): "raise"}))
    films = {row.key: row.video for row in rows_of(tmp_path).values() if row.video}
    assert films["tiny", 1, 1] == "videos/tiny_task01_trial001.mp4"
    assert len(films) == 5  # two per task, less one error
    assert {str(path.relative_to(tmp_path)) for path in (tmp_path / "videos").iterdir()} == set(
        films.values()
    )
    key = ("tiny", 1, 1)
    with imageio.v2.get_reader(tmp_path / films[key]) as reader:
        assert reader.get_meta_data()["fps"] == 20
        frames = [frame.mean() for frame in reader]
    assert len(frames) == rows_of(tmp_path)[key].steps
    assert frames == pytest.approx([10 * (index + 1) for index in range(len(frames))], abs=4)


def start_slow_run(folder: Path) -> subprocess.Popen:
    script = Path(__file__).parent / "tiny_world.py"
    return subprocess.Popen(
        [sys.executable, script, folder, "4", "0.2"],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(holds: Callable[[], bool], what: str) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError(f"not within a minute: {what}")


def wait_for_rows(folder: Path, number: int) -> None:
    rows = folder / "episodes.jsonl"
    wait_until(lambda: rows.exists() and len(rows.read_text().splitlines()) >= number, f"{number} rows")


def alive(group: int) -> list[int]:
    """Processes of a group, without those that have ended and only wait to be collected."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(process_group) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found


def test_ctrl_c_leaves_a_folder_to_resume(undisturbed: Path, tmp_path: Path) -> None:
    process = start_slow_run(tmp_path)
    wait_for_rows(tmp_path, 2)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends Ctrl-C to the whole group
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    wait_until(lambda: not alive(process.pid), "all processes of the run have ended")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["missing"] == 12 - len(rows_of(tmp_path)) > 0
    assert summary["comparable"] is False
    run(tmp_path, resume=True)
    assert without_timings(tmp_path) == without_timings(undisturbed)


def test_kill_9_of_the_run_leaves_a_folder_to_resume(undisturbed: Path, tmp_path: Path) -> None:
    process = start_slow_run(tmp_path)
    wait_for_rows(tmp_path, 2)
    process.kill()
    process.communicate(timeout=60)  # which returns when the workers, too, have let go of stderr
    wait_until(lambda: not alive(process.pid), "the workers have followed their parent")
    run(tmp_path, resume=True)
    assert without_timings(tmp_path) == without_timings(undisturbed)
