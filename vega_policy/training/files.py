"""Files and folders that appear in one step, complete, also after a crash."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

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
    try:
        yield partial
    except SafetensorError as error:  # which is no OSError even where the disk is full
        raise OSError(f"cannot write {path}: {error}") from error
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


def claim_space(file: Path, num_bytes: int | None = None) -> None:
    """Take a file's space at once: a disk that fills up under a memory map kills the process.

    Args:
        file: Made if it is not there.
        num_bytes: Its size; the one it says it has already if not given.

    Raises:
        OSError: The disk has not so much left.
    """
    with file.open("ab") as stream:
        size = stream.seek(0, os.SEEK_END) if num_bytes is None else num_bytes
        try:
            os.posix_fallocate(stream.fileno(), 0, size)
        except OSError as error:
            raise OSError(f"cannot keep {size / 2**20:.0f} MiB in {file} ({error.strerror})") from error


def give_usual_modes(folder: Path) -> None:
    """Make a folder's files as readable as new ones: LeRobot's films begin as temporary files, mode 0600."""
    mask = os.umask(0)
    os.umask(mask)
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(0o666 & ~mask)


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
