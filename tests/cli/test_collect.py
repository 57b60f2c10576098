"""`vega-collect` after a learner: pictures of the learner's size, and a word where conditions differ."""

import json
from pathlib import Path
from typing import Any

import pytest

from vega_policy.cli.collect import prepare, run
from vega_policy.cli.collect_config import CollectConfig, LearnerConfig
from vega_policy.rollouts.episode import Row

TRAINED = {"assets": "standin", "protocol": "oft", "image_size_px": 64}


@pytest.fixture
def learner(tmp_path: Path) -> LearnerConfig:
    """A checkpoint as far as preparing reads it."""
    (tmp_path / "learner").mkdir()
    (tmp_path / "learner" / "config.json").write_text(json.dumps({"type": "vega", "trained_with": TRAINED}))
    return LearnerConfig(path=str(tmp_path / "learner"))


def config(folder: Path, learner: LearnerConfig, image_size_px: int | None, **changes: Any) -> CollectConfig:
    return CollectConfig(
        folder / "data",
        task_ids=[0],
        episodes=1,
        assets="standin",
        policy=learner,
        image_size_px=image_size_px,
        **changes,
    )


def test_pictures_have_the_learners_size_unless_another_is_asked_for(
    tmp_path: Path, learner: LearnerConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    collection = prepare(config(tmp_path / "same", learner, None))
    assert collection.make_env.config.image_size_px == collection.provenance["config"]["image_size_px"] == 64
    assert capsys.readouterr().err == ""
    assert prepare(config(tmp_path / "other", learner, 128)).make_env.config.image_size_px == 128
    assert "trained with picture size in pixels 64, here it is 128" in capsys.readouterr().err
    assert prepare(config(tmp_path / "none", LearnerConfig(), None)).make_env.config.image_size_px == 256


@pytest.mark.parametrize("num_workers", [1, 3])
def test_a_learner_computes_with_one_thread_however_many_workers_there_are(
    tmp_path: Path, learner: LearnerConfig, num_workers: int
) -> None:
    make_learner = prepare(config(tmp_path, learner, None, num_workers=num_workers)).make_policy.make_learner
    assert make_learner is not None
    assert make_learner.num_threads == 1


def test_no_dataset_is_replaced_that_its_recordings_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "data" / "meta").mkdir(parents=True)
    (tmp_path / "data" / "meta" / "provenance.json").write_text("{}")
    with pytest.raises(FileExistsError, match="--resume=true"):
        prepare(config(tmp_path, LearnerConfig(), 64))
    with pytest.raises(FileExistsError, match="recordings that it was made of are not in"):
        prepare(config(tmp_path, LearnerConfig(), 64, resume=True))
    assert (tmp_path / "data" / "meta" / "provenance.json").is_file()


@pytest.mark.parametrize("change", [{"seed": 7}, {"action_noise": 0.1}, None, {}])
def test_only_the_dataset_of_these_recordings_is_replaced(
    tmp_path: Path, change: dict[str, Any] | None
) -> None:
    collection = prepare(config(tmp_path, LearnerConfig(), 64))
    recorded = collection.provenance["config"]
    there = {"merged": []} if change is None else {"config": {**recorded, "num_workers": 5, **change}}
    collection.folder.append(
        Row("libero_spatial", 0, "x", 0, None, 1, "success", 9, None, 1.0, 1.0, 0.0, 9, None)
    )
    (tmp_path / "data" / "meta").mkdir(parents=True)
    provenance = tmp_path / "data" / "meta" / "provenance.json"
    provenance.write_text(json.dumps(there))
    del collection
    again = config(tmp_path, LearnerConfig(), 64, resume=True)
    if change == {}:
        assert prepare(again).folder.rows
        return
    with pytest.raises(FileExistsError, match="was not made of the recordings in"):
        prepare(again)
    assert json.loads(provenance.read_text()) == there


def test_a_link_is_no_place_for_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match="is a link"):
        prepare(config(tmp_path, LearnerConfig(), 64))


def test_where_nothing_was_kept_it_is_said_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = prepare(config(tmp_path, LearnerConfig(), 64))
    monkeypatch.setattr(
        "vega_policy.rollouts.collect.collect",
        lambda wanted, *_, **__: {task: [] for task in wanted.tasks},
    )
    assert run(collection) == 1
    message = capsys.readouterr().err
    assert "libero_spatial task 0" in message
    assert "0 of 1 demonstrations after 0 trials" in message
    assert "no dataset is written" in message
    assert not (tmp_path / "data").exists()


def test_space_is_asked_for_by_the_size_of_the_pictures_and_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        "vega_policy.rollouts.folder.ResultsFolder", lambda *_, film_bytes, **__: asked.append(film_bytes)
    )
    for size_px in (64, 128):
        prepare(config(tmp_path, LearnerConfig(), size_px))
    (tmp_path / "data.recordings" / "task" / "trial00000").mkdir(parents=True)
    prepare(config(tmp_path, LearnerConfig(), 64))
    small, large, recorded = asked
    assert large == 4 * small > 0
    assert recorded == small / 2, "the dataset is still to be written"


def test_a_learner_that_reads_clips_is_warned_of(
    tmp_path: Path, learner: LearnerConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert learner.path is not None
    file = Path(learner.path) / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "simulator": {"clip_length": 5}}))
    prepare(config(tmp_path, learner, None))
    assert "reads clips of 5 pictures" in capsys.readouterr().err


def test_a_learner_that_is_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing of the kind at"):
        prepare(config(tmp_path, LearnerConfig(path=str(tmp_path / "lerner")), None))
