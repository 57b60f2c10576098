"""Files that are on the disk, whole, when they are counted on."""

import fcntl
import os
from pathlib import Path
from typing import TextIO


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step: readers see the old text or the new, also after a crash."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    sync(partial)
    partial.replace(path)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_folder(path: Path) -> TextIO:
    """Take a folder's lock, held until it is closed or this process ends; two writers would undo each other.

    Raises:
        FileExistsError: Another process holds it.
    """
    lock = (path / ".lock").open("w", encoding="utf-8")
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        lock.close()
        raise FileExistsError(
            f"another run is writing to {path}; wait for it, or choose another --output_dir"
        ) from error
    except OSError:  # a file system without locks: better unguarded than not at all
        pass
    return lock
