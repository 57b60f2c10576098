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
    partial, old = (path.with_name(f".{path.name}{end}") for end in (PARTIAL, f".old{PARTIAL}"))
    if old.exists() and not path.exists():  # a crash came between the two renames below
        old.replace(path)
    remove(partial)
    yield partial
    _sync_files(partial)
    if path.is_dir() and not path.is_symlink():  # which cannot be replaced by a rename alone
        remove(old)
        path.replace(old)
    partial.replace(path)
    _sync(path.parent)
    remove(old)


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
