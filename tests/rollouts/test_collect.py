"""Collections of a tiny world in real worker processes: what is recorded, what is replaced, what resumes."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from recorded_world import (
    NEAR,
    REACH,
    STEP_LIMIT,
    STEPS_AFTER_SUCCESS,
    TASK,
    LineEnv,
    MakeStraying,
    RecordedWorld,
    paths,
    record,
    right_action,
)

from vega_policy.rollouts import recording
from vega_policy.rollouts.demonstrator import KICK_STEPS, ROTATION, TRANSLATION, Demonstrator, Disturbance
from vega_policy.rollouts.episode import Task
from vega_policy.rollouts.recording import EpisodeWriter, read_recording


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list]:
    """Four demonstrations of the undisturbed expert."""
    folder = tmp_path_factory.mktemp("plain")
    return folder, record(folder)


def contents(folder: Path) -> dict[str, bytes]:
    """All bytes that were recorded."""
    files = sorted((folder / "line").rglob("*.*"))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files if file.is_file()}


def test_every_step_has_its_observation_and_the_experts_action(plain) -> None:
    folder, rows = plain
    for path in paths(folder, rows):
        recording = read_recording(path)
        positions, actions = recording.columns["position"], recording.columns["action"]
        assert len(positions) == len(actions) == recording.facts["steps"]
        assert np.array_equal(actions, [right_action(position) for position in positions])
        assert np.allclose(positions[1:], positions[:-1] + REACH * actions[:-1, :2], atol=1e-6)


def test_a_recording_goes_on_after_success(plain) -> None:
    folder, rows = plain
    for path in paths(folder, rows):
        recording = read_recording(path)
        solved_at = recording.facts["first_success_step"]
        assert recording.facts["steps"] == solved_at + STEPS_AFTER_SUCCESS
        assert recording.facts["goal_holds_at_end"]
        near = np.abs(recording.columns["position"]).max(axis=1) < NEAR
        assert near[solved_at:].all()
        assert not near[:solved_at].any()


def test_films_show_the_steps_and_histograms_count_them(plain) -> None:
    folder, rows = plain
    recording = read_recording(paths(folder, rows)[0])
    with av.open(str(recording.films["film"])) as film:
        shown = [frame.to_ndarray(format="rgb24").mean() for frame in film.decode(video=0)]
    steps = np.arange(recording.facts["steps"])
    assert np.allclose(shown, 8 * steps, atol=3)
    counts = recording.histograms["film"]
    assert np.array_equal(np.nonzero(counts[0])[0], 8 * steps)
    assert counts.sum() == 3 * 32 * 32 * len(steps)


def test_failures_are_replaced_by_the_next_trials(plain) -> None:
    folder, rows = plain
    assert len(rows) == 4
    assert all(row.seed % 3 for row in rows)
    trials = [row.trial for row in rows]
    assert trials == sorted(trials)
    assert {path.name for path in (folder / "line").iterdir()} == {path.name for path in paths(folder, rows)}


def test_a_worker_replaces_a_failure_before_it_leaves_the_task(tmp_path: Path) -> None:
    record(tmp_path, 4, tasks=(Task("line", 1, "go home again"), TASK), num_workers=1)
    rows = [json.loads(line) for line in (tmp_path / "episodes.jsonl").read_text().splitlines()]
    order = [row["task_id"] for row in rows]
    assert order == sorted(order, reverse=True)
    assert "failure" in {row["outcome"] for row in rows if row["task_id"] == 1}


def test_recordings_depend_on_neither_workers_nor_interruptions(plain, tmp_path: Path) -> None:
    folder, rows = plain
    record(tmp_path, 2, num_workers=1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "line").rglob("*.npz")}
    resumed = record(tmp_path, 4, num_workers=1, resume=True)
    assert [row.trial for row in resumed] == [row.trial for row in rows]
    assert contents(tmp_path) == contents(folder)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_worker_that_dies_leaves_no_torn_recording(plain, tmp_path: Path) -> None:
    folder, rows = plain
    assert [row.trial for row in record(tmp_path, mark=tmp_path / "mark")] == [row.trial for row in rows]
    assert contents(tmp_path) == contents(folder)


def test_a_task_is_given_up_after_so_many_trials(tmp_path: Path) -> None:
    rows = record(tmp_path, 10, max_trials=10, num_workers=1)
    assert 0 < len(rows) < 10


def test_failures_are_kept_when_asked_for(tmp_path: Path) -> None:
    rows = record(tmp_path, 6, keep_failures=True, num_workers=1)
    assert [row.trial for row in rows] == list(range(6))
    for row, path in zip(rows, paths(tmp_path, rows), strict=True):
        facts = read_recording(path).facts
        assert facts["success"] == (row.outcome == "success") == bool(row.seed % 3)
        assert facts["success"] or facts["steps"] == STEP_LIMIT


def test_noise_is_executed_but_not_recorded(plain, tmp_path: Path) -> None:
    rows = record(tmp_path, 2, disturbance=Disturbance(action_noise=0.4), num_workers=1)
    for path in paths(tmp_path, rows):
        columns = read_recording(path).columns
        positions, actions = columns["position"], columns["action"]
        assert np.array_equal(actions, [right_action(position) for position in positions])
        error = positions[1:] - positions[:-1] - REACH * actions[:-1, :2]
        assert np.abs(error).max() > 0.01
    first = read_recording(paths(tmp_path, rows)[0]).columns["position"][0]
    assert np.array_equal(first, read_recording(paths(*plain)[0]).columns["position"][0])


def test_kicks_lead_aside_and_the_labels_back() -> None:
    kicked = Demonstrator(Always(0.25), None, Disturbance(kicks=0.1))
    kicked.reset(seed=0)
    executed, labels = np.concatenate([kicked.act({}) for _ in range(400)]).swapaxes(0, 1)
    assert (labels == 0.25).all()
    assert (executed[:, -1] == 0.25).all(), "the gripper is not kicked"
    aside = (executed[:, :-1] != 0.25).any(axis=1)
    assert np.abs(executed[aside, :-1]).max(axis=1) == pytest.approx(1.0)
    moved, turned = (executed[:, part] != 0.25 for part in (TRANSLATION, ROTATION))
    assert (moved.all(axis=1) ^ turned.all(axis=1) == aside).all(), "one or the other, as a whole"
    assert 0.3 < moved[aside].all(axis=1).mean() < 0.7
    changes = np.flatnonzero(np.diff(np.concatenate([[0], aside, [0]]).astype(int)))
    lengths = changes[1::2] - changes[::2]
    assert (lengths[:-1] % KICK_STEPS == 0).all()
    assert aside.mean() == pytest.approx(0.1 * KICK_STEPS / (1 + 0.1 * (KICK_STEPS - 1)), abs=0.06)


def test_the_start_motion_is_made_but_not_recorded(plain, tmp_path: Path) -> None:
    rows = record(tmp_path, 2, start_steps=6, num_workers=1)
    starts = [read_recording(path).columns["position"][0] for path in paths(tmp_path, rows)]
    unmoved = [read_recording(path).columns["position"][0] for path in paths(*plain)[:2]]
    assert all(np.abs(start - other).max() > 1e-3 for start, other in zip(starts, unmoved, strict=True))


def test_the_expert_takes_over_from_a_learner_and_only_its_part_is_recorded(plain, tmp_path: Path) -> None:
    rows = record(tmp_path, 4, learner=MakeStraying(), disturbance=Disturbance(beta=0.4), num_workers=1)
    strayed = 0
    for row, path, alone in zip(rows, paths(tmp_path, rows), paths(*plain), strict=False):
        columns, facts = read_recording(path).columns, read_recording(path).facts
        positions, actions = columns["position"], columns["action"]
        assert np.array_equal(actions, [right_action(position) for position in positions])
        np.testing.assert_allclose(positions[1:], positions[:-1] + REACH * actions[:-1, :2], atol=1e-6)
        assert facts["success"]
        assert row.outcome == "success"
        strayed += not np.array_equal(positions[0], read_recording(alone).columns["position"][0])
    assert strayed > 0


class Always:
    """Answers the same; an expert in whose eyes the learner is in trouble from its fifth decision on."""

    def __init__(self, value: float) -> None:
        self._value = value
        self._decisions = 0

    def reset(self, seed: int) -> None:
        self._decisions = 0

    def act(self, observation):
        return np.full((2, 7), self._value)

    def sees_trouble(self) -> bool:
        self._decisions += 1
        return self._decisions > 5


def taken_over_at(disturbance: Disturbance) -> list[int]:
    """Decisions of the learner before the expert's first, in 200 episodes."""
    demonstrator = Demonstrator(Always(1.0), Always(0.0), disturbance)
    learned = []
    for seed in range(200):
        demonstrator.reset(seed)
        chunks = [demonstrator.act({}) for _ in range(60)]
        by_expert = [bool(chunk[0, 0, 0] == 1.0) for chunk in chunks]
        assert by_expert == sorted(by_expert), "once it acts it goes on to the end"
        for chunk, expert in zip(chunks, by_expert, strict=True):
            assert np.isnan(chunk[:, 1]).all() == (not expert)
            assert len(chunk) == (1 if expert else 2)
        learned.append(int(np.argmax(by_expert)))
    return learned


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_beta_chooses_when_the_expert_takes_over(beta: float) -> None:
    assert np.mean(taken_over_at(Disturbance(beta=beta))) == pytest.approx((1 - beta) / beta, abs=0.6)


def test_the_start_motion_does_not_tell_when_the_expert_takes_over(tmp_path: Path) -> None:
    """From one stream of random numbers each decision would follow a component of that motion."""
    env = RecordedWorld(tmp_path, start_steps=6)(TASK, images=False)
    motions = []
    for seed in range(200):
        before, _ = env.env.reset(seed=seed, options={"placement": "random"})
        after, _ = env.reset(seed=seed, options={"trial": 0})
        motions.append(np.sign(after["position"] - before["position"]))
    learned = np.array(taken_over_at(Disturbance(beta=0.5)))
    for decision, component in ((1, 0), (2, 1)):
        assert abs(np.mean([motions[seed][component] for seed in np.flatnonzero(learned == decision)])) < 0.4
    env.close()


def test_the_expert_comes_to_the_rescue() -> None:
    assert set(taken_over_at(Disturbance(beta=1e-9, rescue=1.0))) == {5}
    assert np.mean(taken_over_at(Disturbance(beta=1e-9, rescue=0.5))) == pytest.approx(6.0, abs=0.5)


def test_in_trouble_it_does_not_come_less_often_than_otherwise() -> None:
    assert set(taken_over_at(Disturbance(beta=1.0, rescue=0.1))) == {0}


def test_what_a_learner_solves_alone_is_no_demonstration(tmp_path: Path) -> None:
    env = RecordedWorld(tmp_path)(TASK, images=True)
    observation, _ = env.reset(seed=1, options={"trial": 0})
    done = False
    while not done:
        executed = right_action(observation["position"])
        observation, _, terminated, truncated, info = env.step(
            np.stack([executed, 0 * executed + np.nan])[None]
        )
        done = terminated or truncated
    assert not info["is_success"]
    assert not list(tmp_path.rglob("recording.json"))


def test_standing_by_after_a_learner_has_solved_it_is_no_demonstration(tmp_path: Path) -> None:
    """The expert may still take over after the success, when there is nothing left to do."""
    env = RecordedWorld(tmp_path)(TASK, images=True)
    observation, _ = env.reset(seed=1, options={"trial": 0})
    done = solved = False
    while not done:
        executed = right_action(observation["position"])
        label = executed if solved else 0 * executed + np.nan
        observation, _, terminated, truncated, info = env.step(np.stack([executed, label])[None])
        solved, done = solved or info["is_success"], terminated or truncated
    assert solved
    assert not info["is_success"]
    assert not list(tmp_path.rglob("recording.json"))


def test_a_recording_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(recording, "sync", lambda path: synced.append(path.name))
    writer = EpisodeWriter(tmp_path / "trial00000", 20)
    writer.add({"position": np.zeros(2), "film": np.zeros((32, 32, 3), np.uint8)})
    writer.finish({})
    assert sorted(synced[:-1]) == ["film.mp4", "frames.npz", "recording.json"]
    assert synced[-1] == tmp_path.name


def test_an_unfinished_recording_does_not_exist(tmp_path: Path) -> None:
    writer = EpisodeWriter(tmp_path / "trial00000", 20)
    writer.add({"position": np.zeros(2)})
    with pytest.raises(FileNotFoundError):
        read_recording(tmp_path / "trial00000")
    writer.discard()
    assert not list(tmp_path.iterdir())


def test_a_step_before_reset_is_refused(tmp_path: Path) -> None:
    env = RecordedWorld(tmp_path)(None, images=True)
    assert isinstance(env.unwrapped, LineEnv)
    with pytest.raises(Exception, match="call reset"):
        env.step(np.zeros((1, 2, 3)))
