"""Demonstrations and a round of DAgger in one dataset: every frame, the tasks and the conditions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from small_data import LENGTHS, TASKS, make_dataset

from vega_policy.cli.merge import main
from vega_policy.quantiles import read_column
from vega_policy.training.demonstrations import recorded_conditions
from vega_policy.training.libero_data import (
    ACTION_KEY,
    IMAGE_KEYS,
    STATE_KEY,
    check_films,
    check_libero_dataset,
)
from vega_policy.training.merging import merge_datasets
from vega_policy.training.metadata import is_whole, load_metadata
from vega_policy.training.statistics import column_stats

ENVIRONMENT = {"assets": "standin", "assets_hash": "12", "protocol": "oft", "image_size_px": 32}


def merge(folder: Path, *roots: Path) -> int:
    return main([f"--roots=[{','.join(map(str, roots))}]", f"--output_dir={folder / 'both'}"])


def test_merged_datasets_have_all_frames_and_their_origin(tmp_path: Path) -> None:
    roots = [make_dataset(tmp_path / name, seed, ENVIRONMENT) for seed, name in enumerate(("base", "round"))]
    assert merge(tmp_path, *roots) == 0
    both = LeRobotDataset("local/both", root=tmp_path / "both")
    check_libero_dataset(both.meta)
    check_films(both.meta)
    assert both.num_episodes == 2 * len(LENGTHS)
    parts = [LeRobotDataset(f"local/{root.name}", root=root) for root in roots]
    sources = [part[index] for part in parts for index in (0, 8, 20)]
    merged = [both[offset + index] for offset in (0, sum(LENGTHS)) for index in (0, 8, 20)]
    for source, found in zip(sources, merged, strict=True):
        assert found["task"] == source["task"] in TASKS
        assert np.array_equal(found[ACTION_KEY], source[ACTION_KEY])
        for key in IMAGE_KEYS.values():
            assert np.array_equal(found[key], source[key])
    assert recorded_conditions(tmp_path / "both") == ENVIRONMENT
    provenance = json.loads((tmp_path / "both" / "meta" / "provenance.json").read_text())
    assert [(part["root"], part["seed"]) for part in provenance["merged"]] == [("base", 0), ("round", 1)]


def test_the_statistics_of_what_was_merged_are_exact_and_everybody_may_read_it(tmp_path: Path) -> None:
    roots = [make_dataset(tmp_path / name, seed, ENVIRONMENT) for seed, name in enumerate(("base", "round"))]
    assert merge(tmp_path, *roots) == 0
    both = tmp_path / "both"
    stats = json.loads((both / "meta" / "stats.json").read_text())
    for key in (ACTION_KEY, STATE_KEY, "timestamp"):
        for name, found in column_stats(read_column(both, key)).items():
            np.testing.assert_allclose(stats[key][name], found)
    assert set(stats) == set(json.loads((both / "meta" / "info.json").read_text())["features"])
    modes = {file.stat().st_mode & 0o777 for root in (*roots, both) for file in root.rglob("*.*")}
    (tmp_path / "new").touch()
    assert {mode for mode in modes if not mode & 0o100} == {(tmp_path / "new").stat().st_mode & 0o777}


def test_what_was_merged_is_left_when_it_is_asked_for_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, more = (
        make_dataset(tmp_path / name, seed, ENVIRONMENT) for seed, name in enumerate(("base", "more"))
    )
    command = [f"--roots=[{base},{more}]", f"--output_dir={tmp_path / 'both'}"]
    assert main(command) == 0
    info = tmp_path / "both" / "meta" / "info.json"
    before = info.stat().st_mtime_ns
    assert main(command) == 2
    assert main([*command, "--resume=true"]) == 0
    assert info.stat().st_mtime_ns == before
    assert main([f"--roots=[{more},{base}]", command[1], "--resume=true"]) == 2
    assert "not merged of these in this order" in capsys.readouterr().err


def test_a_longer_dataset_of_the_same_name_is_another_one(tmp_path: Path) -> None:
    """A dataset from elsewhere has no provenance that would tell."""
    base = make_dataset(tmp_path / "base", 0, ENVIRONMENT)
    (base / "meta" / "provenance.json").unlink()
    command = [f"--roots=[{base}]", f"--output_dir={tmp_path / 'copy'}", "--resume=true"]
    assert main(command) == main(command) == 0
    merge_datasets([base, make_dataset(tmp_path / "more", 1)], tmp_path / "longer")
    shutil.rmtree(base)
    (tmp_path / "longer" / "meta" / "provenance.json").unlink()
    (tmp_path / "longer").rename(base)
    assert main(command) == 2


def test_statistics_are_left_where_they_are_none_of_a_vector(tmp_path: Path) -> None:
    base = make_dataset(tmp_path / "base", 0, ENVIRONMENT)
    file = base / "meta" / "stats.json"
    stats = json.loads(file.read_text())
    file.write_text(json.dumps({**stats, "something.else": stats[ACTION_KEY]}))
    assert merge(tmp_path, base) == 0


def test_a_dataset_is_merged_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = make_dataset(tmp_path / "base", 0, ENVIRONMENT)
    with pytest.raises(SystemExit):
        merge(tmp_path, base, base / ".." / "base")
    assert "is there several times" in capsys.readouterr().err


@pytest.mark.parametrize("version", ["v2.1", "v2.0"])
def test_an_older_format_is_refused_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], version: str
) -> None:
    base = make_dataset(tmp_path / "base", 0, ENVIRONMENT)
    file = base / "meta" / "info.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "codebase_version": version}))
    assert merge(tmp_path, base) == 2
    message = capsys.readouterr().err
    assert f"expected a LeRobotDataset v3.0 in {base}" in message
    assert "convert_dataset_v21_to_v30" in message


def test_a_dataset_is_whole_with_all_its_files(tmp_path: Path) -> None:
    base = make_dataset(tmp_path / "base")
    assert is_whole(base)
    assert not is_whole(tmp_path)
    next(base.rglob("*.mp4")).unlink()
    assert not is_whole(base)


def test_a_folder_without_a_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"expected a LeRobotDataset in {tmp_path}"):
        load_metadata("local/demonstrations", tmp_path)
    with pytest.raises(FileNotFoundError, match="a folder as root, or a repo_id on the Hub"):
        load_metadata("local/demonstrations")


def test_a_round_in_scenes_that_were_seen_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    roots = [make_dataset(tmp_path / name, seed, ENVIRONMENT) for seed, name in enumerate("abc")]
    for root, suites in zip(roots, ("xyz", "uvw", "xyw"), strict=True):
        file = root / "meta" / "provenance.json"
        provenance = json.loads(file.read_text())
        for episode, suite in zip(provenance["episodes"], suites, strict=True):
            episode |= {"suite": suite, "task_id": 0}
        file.write_text(json.dumps(provenance))
    assert merge(tmp_path, *roots[:2]) == 0
    assert "begin in scenes" not in caplog.text
    assert main([f"--roots=[{tmp_path}/both,{roots[2]}]", f"--output_dir={tmp_path}/all"]) == 0
    assert f"3 of 3 episodes of {roots[2]} begin in scenes of {tmp_path}/both" in caplog.text


def test_what_does_not_belong_together_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = make_dataset(tmp_path / "base", 0, ENVIRONMENT)
    other = make_dataset(tmp_path / "other", 1, {**ENVIRONMENT, "assets": "official"})
    assert merge(tmp_path, base, other) == 2
    assert "the same assets, got standin in " in capsys.readouterr().err
    assert not (tmp_path / "both").exists()
    with pytest.raises(SystemExit):
        merge(tmp_path, base, tmp_path / "nowhere")
    assert "there is none in" in capsys.readouterr().err
