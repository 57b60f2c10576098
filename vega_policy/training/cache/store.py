"""One array on disk, filled block by block, read through a memory map.

The folder carries what its content depends on, and every block its checksum: an array made for something else
is never opened, a torn or altered block is computed again, and an interrupted filling goes on where it was.
"""

import fcntl
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from vega_policy.training.cache.blocks import RECORDS, Neighbours, Record, checksum_of, read_records
from vega_policy.training.files import claim_space, remove

Span = tuple[int, int]
"""From a first row to before a last."""

Fill = Callable[[int, int], Any]
"""Gives the rows from a first to before a last, or what they are then made of; may run in another process."""

Finish = Callable[[Any], NDArray[Any]]
"""Makes the rows of what was filled in; runs in the process that asked, which may hold a GPU."""

Digest = Callable[[Any], str]
"""Of what was filled in and of all else that `finish` makes of it: equal digests, equal rows."""

BLOCK_BYTES = 2**24
"""Lost at most by an interruption."""


class ArrayStore:
    """An array of many rows below `root`, in a folder named after its key.

    Args:
        root: Where caches are kept.
        name: What the array is, for people and progress bars.
        key: All that the values depend on; JSON values.
        num_rows: Rows.
        row_shape: Shape of one.
        dtype: NumPy's type of the values.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        key: Mapping[str, Any],
        num_rows: int,
        row_shape: tuple[int, ...],
        dtype: DTypeLike,
    ) -> None:
        self.dtype = np.dtype(dtype)
        self.shape = (num_rows, *row_shape)
        self._name = name
        self._key = json.dumps(
            {**key, "shape": list(self.shape), "dtype": self.dtype.name}, sort_keys=True, indent=2
        )
        self.folder = root / f"{name}-{sha256(self._key.encode()).hexdigest()[:16]}"
        row_bytes = int(np.prod(row_shape)) * self.dtype.itemsize
        self._num_bytes = num_rows * row_bytes
        self._block = max(1, BLOCK_BYTES // max(1, row_bytes))

    def ensure(
        self, fill: Fill, finish: Finish = np.asarray, num_workers: int = 0, digest: Digest | None = None
    ) -> int:
        """Compute the blocks that are not there or not intact; a second process waits, and finds them done.

        Args:
            fill: Called for each of them.
            finish: Called with what `fill` gave.
            num_workers: Processes that fill side by side; 0 fills in this one.
            digest: If given, a block that a neighbour made of the same is taken over from it.

        Returns:
            How many rows were computed or taken over.

        Raises:
            ValueError: If `fill` gives other than the rows asked for, or a value that `dtype` cannot hold.
            OSError: If the disk has no room for the array.
        """
        with self._locked(fcntl.LOCK_SH):  # processes that only look do so side by side
            if self._is_on_record() and not self._missing():
                return 0
        with self._locked(fcntl.LOCK_EX):
            missing = self._missing()
            if missing:
                filled = _side_by_side(_Blocks(missing, fill), num_workers)
                self._compute(zip(missing, filled, strict=True), sum(map(_length, missing)), finish, digest)
            return sum(map(_length, missing))

    def open(self) -> NDArray[Any]:
        """The array, read-only; `ensure` has made it complete."""
        return self._map("r")

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        """Within it no other process fills this array; the lock of one that is killed is free again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, kind)
            yield

    def _compute(
        self, filled: Iterable[tuple[Span, Any]], num_rows: int, finish: Finish, digest: Digest | None
    ) -> None:
        array, taken = self._map("r+"), 0
        neighbours = Neighbours(self.folder, self._name, self.shape[1:], self.dtype)
        with tqdm(total=num_rows, desc=f"caching {self._name}", unit="row", dynamic_ncols=True) as bar:
            for span, block in filled:
                made_of = None if digest is None else digest(block)
                rows = None if made_of is None else neighbours.rows(made_of, _length(span))
                taken += _length(span) if rows is not None else 0
                bar.set_postfix({"taken over": taken} if taken else {}, refresh=False)
                self._write(array, span, finish(block) if rows is None else rows, made_of)
                bar.update(_length(span))

    def _missing(self) -> list[Span]:
        """Spans of rows that have to be computed, in order."""
        blocks = [
            (first, min(first + self._block, self.shape[0])) for first in range(0, self.shape[0], self._block)
        ]
        if not self._belongs_here():
            self._begin()
            return blocks
        records, array = read_records(self.folder), self._map("r")
        sums = {first: record.checksum for first, record in records.items()}
        return [(first, last) for first, last in blocks if sums.get(first) != checksum_of(array[first:last])]

    def _is_on_record(self) -> bool:
        """Whether there is a checksum of every block, right or not."""
        starts = set(range(0, self.shape[0], self._block))
        return self._belongs_here() and starts <= read_records(self.folder).keys()

    def _belongs_here(self) -> bool:
        """Whether the folder holds this array, whole or in part."""
        key_file, values = self.folder / "key.json", self.folder / "values.bin"
        if not key_file.is_file() or not values.is_file():
            return False
        return key_file.read_text() == self._key and values.stat().st_size == self._num_bytes

    def _begin(self) -> None:
        """An empty array; the key comes last, so that what lacks it counts as nothing."""
        for name in ("key.json", RECORDS):
            (self.folder / name).unlink(missing_ok=True)
        remove(self.folder / "values.bin")
        claim_space(self.folder / "values.bin", self._num_bytes)
        (self.folder / "key.json").write_text(self._key)

    def _write(self, array: NDArray[Any], span: Span, rows: NDArray[Any], made_of: str | None) -> None:
        """Rows, then what is on record of them: without the second the first do not count."""
        first, last = span
        expected = (last - first, *self.shape[1:])
        if rows.shape != expected:
            raise ValueError(
                f"expected rows {first} to {last} of {self._name} as {expected}, got {rows.shape}"
            )
        with np.errstate(over="ignore"):
            stored = rows.astype(self.dtype)
        if not np.isfinite(stored).all():
            raise ValueError(
                f"rows {first} to {last} of {self._name} do not fit {self.dtype.name}: "
                "set cache.dtype=float32, or look for the cause if they are not finite before"
            )
        array[first:last] = stored
        Record(first, checksum_of(stored), made_of).append(self.folder)

    def _map(self, mode: Any) -> NDArray[Any]:
        return np.memmap(self.folder / "values.bin", self.dtype, mode, shape=self.shape)


class _Blocks(Dataset[Any]):
    """What `fill` gives for each span, for torch's loader to share out."""

    def __init__(self, spans: Sequence[Span], fill: Fill) -> None:
        self._spans, self._fill = spans, fill

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, number: int) -> Any:
        return self._fill(*self._spans[number])


def _side_by_side(blocks: "_Blocks", num_workers: int) -> DataLoader[Any]:
    """A loader in their order; its own generator, as it would else take a number from the training noise."""
    return DataLoader(blocks, batch_size=None, num_workers=num_workers, generator=torch.Generator())


def _length(span: Span) -> int:
    return span[1] - span[0]
