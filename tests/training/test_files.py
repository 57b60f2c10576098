"""What is written in one step is complete, or what was there before."""

from pathlib import Path

import pytest

from vega_policy.training.files import in_one_step, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_that_is_not_finished_leaves_the_old_one(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")

    def write_half() -> None:
        with in_one_step(tmp_path / "file") as partial:
            partial.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert (tmp_path / "file").read_text() == "old"
    write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"
    assert names(tmp_path) == ["file"]


def test_a_folder_that_a_crash_left_aside_is_put_back(tmp_path: Path) -> None:
    """Between two renames a folder has no name of its own for a moment."""
    (tmp_path / ".folder.old.partial").mkdir()
    (tmp_path / ".folder.old.partial" / "old").touch()

    def write_half() -> None:
        with in_one_step(tmp_path / "folder") as partial:
            partial.mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert names(tmp_path / "folder") == ["old"]


def test_a_folder_takes_the_place_of_another_with_nothing_left_of_it(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with in_one_step(tmp_path / "folder") as partial:
            partial.mkdir()
            (partial / name).touch()
    assert names(tmp_path) == ["folder"]
    assert names(tmp_path / "folder") == ["new"]
