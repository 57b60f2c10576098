"""Files and folders that appear in one step, complete, also after a crash."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"


@contextmanager
def in_one_step(path: Path) -> Iterator[Path]:
    """Gives a place to write a file or a folder at; what is there afterwards becomes `path`.

    What an exception leaves half-written stays beside `path`, and is removed when `path` is written again.
    """
    partial = path.with_name(f".{path.name}{PARTIAL}")
    remove(partial)
    yield partial
    _sync_files(partial)
    if path.is_dir() and not path.is_symlink():
        _put_aside(path)
    partial.replace(path)
    _sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace a file of text in one step."""
    with in_one_step(path) as partial:
        partial.write_text(text, encoding="utf-8")


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _put_aside(folder: Path) -> None:
    """Take a folder away in one step, so that none is seen half-removed under its name."""
    old = folder.with_name(f".{folder.name}.old{PARTIAL}")
    remove(old)
    folder.replace(old)
    shutil.rmtree(old)


def _sync_files(path: Path) -> None:
    """A file, or all files of a folder; a link has nothing of its own to keep."""
    if path.is_symlink():
        return
    for file in [path, *path.rglob("*")]:
        if file.is_file():
            _sync(file)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
