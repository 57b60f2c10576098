"""What is on record of an array's blocks: a checksum each, and a digest of what they were made of.

By that digest a new array takes blocks over from those beside it: a round of DAgger is merged with the
demonstrations that came before it, and their features need not be computed a second time.
"""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

RECORDS = "checksums.jsonl"


@dataclass(frozen=True)
class Record:
    """One block of an array.

    Attributes:
        first: Its first row.
        checksum: Of its values as they are stored.
        digest: Of all that they were made from, where that is known.
    """

    first: int
    checksum: int
    digest: str | None = None

    def append(self, folder: Path) -> None:
        """Put it on record: from then on the block counts. It begins a line, also after a torn one."""
        with (folder / RECORDS).open("a") as lines:
            lines.write("\n" + json.dumps([self.first, self.checksum, self.digest]) + "\n")


def read_records(folder: Path) -> dict[int, Record]:
    """By first row; a later line replaces an earlier one, and one that a kill has torn counts for nothing."""
    file = folder / RECORDS
    found: dict[int, Record] = {}
    for line in file.read_text().splitlines() if file.is_file() else ():
        try:
            record = Record(*json.loads(line))
        except (ValueError, TypeError):
            continue
        found[record.first] = record
    return found


def checksum_of(rows: NDArray[Any]) -> int:
    """Changes when a value does."""
    return zlib.crc32(np.ascontiguousarray(rows))


class Neighbours:
    """The blocks of arrays with one name in a folder of caches.

    Args:
        folder: The array that is being filled; it is none of its neighbours.
        name: What the arrays are; their folders begin with it.
        row_shape: Shape of a row; arrays with others are left out.
        dtype: Likewise.
    """

    def __init__(self, folder: Path, name: str, row_shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._row_shape, self._dtype = row_shape, np.dtype(dtype)
        others = sorted(other for other in folder.parent.glob(f"{name}-*") if other != folder)
        self._found = {digest: place for other in others for digest, place in self._blocks(other)}

    def rows(self, digest: str, num_rows: int) -> NDArray[Any] | None:
        """Rows made of what has this digest; None if there are none, or they are not intact."""
        if digest not in self._found:
            return None
        folder, record = self._found[digest]
        try:
            values = np.memmap(folder / "values.bin", self._dtype, "r").reshape(-1, *self._row_shape)
        except (OSError, ValueError):  # made anew at this moment, or damaged
            return None
        rows = values[record.first : record.first + num_rows]
        return rows if len(rows) == num_rows and checksum_of(rows) == record.checksum else None

    def _blocks(self, folder: Path) -> Iterator[tuple[str, tuple[Path, Record]]]:
        if self._is_like(folder):
            for record in read_records(folder).values():
                if record.digest is not None:
                    yield record.digest, (folder, record)

    def _is_like(self, folder: Path) -> bool:
        try:
            key = json.loads((folder / "key.json").read_text())
        except (OSError, ValueError):
            return False
        return (key.get("shape", [])[1:], key.get("dtype")) == (list(self._row_shape), self._dtype.name)
