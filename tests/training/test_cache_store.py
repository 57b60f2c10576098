"""One array on disk: filled once, by one process or several, and never believed where it is damaged."""

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from vega_policy.training.cache import store as store_room
from vega_policy.training.cache.store import ArrayStore

ROWS = np.arange(20, dtype=np.float32).reshape(10, 2)


def array_store(root: Path, key: dict[str, object] | None = None) -> ArrayStore:
    return ArrayStore(root, "numbers", key or {"version": 1}, len(ROWS), (2,), np.float32)


@pytest.fixture(autouse=True)
def blocks_of_three_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_room, "BLOCK_BYTES", 3 * ROWS[0].nbytes)


def counting_fill(first: int, last: int) -> np.ndarray:
    counting_fill.calls.append((first, last))  # type: ignore[attr-defined]
    return ROWS[first:last]


@pytest.fixture(autouse=True)
def no_calls_yet() -> None:
    counting_fill.calls = []  # type: ignore[attr-defined]


def test_a_store_is_filled_once(tmp_path: Path) -> None:
    assert array_store(tmp_path).ensure(counting_fill) == 10
    assert counting_fill.calls == [(0, 3), (3, 6), (6, 9), (9, 10)]  # type: ignore[attr-defined]
    assert array_store(tmp_path).ensure(counting_fill) == 0
    assert np.array_equal(array_store(tmp_path).open(), ROWS)


def test_a_store_is_filled_by_processes_side_by_side(tmp_path: Path) -> None:
    def fill(first: int, last: int) -> dict[str, int]:
        return {"first": first, "last": last, "process": os.getpid()}

    def finish(span: dict[str, int]) -> np.ndarray:
        processes.add(span["process"])
        return ROWS[span["first"] : span["last"]]

    processes: set[int] = set()
    noise = torch.random.get_rng_state()
    assert array_store(tmp_path).ensure(fill, finish, num_workers=2) == 10
    assert np.array_equal(array_store(tmp_path).open(), ROWS)
    assert len(processes - {os.getpid()}) == 2
    assert torch.equal(noise, torch.random.get_rng_state()), "the training noise does not depend on the cache"


def test_an_interrupted_store_goes_on(tmp_path: Path) -> None:
    def breaks(first: int, last: int) -> np.ndarray:
        if first == 6:
            raise KeyboardInterrupt
        return ROWS[first:last]

    with pytest.raises(KeyboardInterrupt):
        array_store(tmp_path).ensure(breaks)
    assert array_store(tmp_path).ensure(counting_fill) == 4
    assert np.array_equal(array_store(tmp_path).open(), ROWS)


@pytest.mark.parametrize(
    "damage", ["a flipped bit", "a short file", "no checksums", "a torn line", "another key"]
)
def test_a_damaged_store_is_mended_where_it_is_damaged(tmp_path: Path, damage: str) -> None:
    store = array_store(tmp_path)
    store.ensure(counting_fill)
    values, lines = store.folder / "values.bin", store.folder / "checksums.jsonl"
    data, text = bytearray(values.read_bytes()), lines.read_text()
    match damage:
        case "a flipped bit":
            data[4 * 2 * 4] ^= 1  # row 4, in the second block
            values.write_bytes(data)
        case "a short file":
            values.write_bytes(data[:-1])
        case "no checksums":
            lines.unlink()
        case "a torn line":
            lines.write_text(text[:-4])
        case _:
            (store.folder / "key.json").write_text(json.dumps({"version": 0}))
    expected = {"a flipped bit": 3, "a torn line": 1}.get(damage, 10)
    assert array_store(tmp_path).ensure(counting_fill) == expected
    assert array_store(tmp_path).ensure(counting_fill) == 0
    assert np.array_equal(array_store(tmp_path).open(), ROWS)


def test_another_key_is_another_store(tmp_path: Path) -> None:
    array_store(tmp_path).ensure(counting_fill)
    assert array_store(tmp_path, {"version": 2}).ensure(counting_fill) == 10


def test_a_store_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    half = ArrayStore(tmp_path, "numbers", {}, 1, (1,), np.float16)
    with pytest.raises(ValueError, match=r"cache\.dtype=float32"):
        half.ensure(lambda first, last: np.full((last - first, 1), 1e6))
    with pytest.raises(ValueError, match=r"expected rows 0 to 1 .* as \(1, 1\), got \(2, 1\)"):
        half.ensure(lambda first, last: np.zeros((last - first + 1, 1)))


def test_a_store_takes_its_space_before_it_is_filled(tmp_path: Path) -> None:
    """A disk that is full refuses at once; under a memory map it would kill the process later."""

    def breaks(first: int, last: int) -> np.ndarray:
        raise KeyboardInterrupt

    large = ArrayStore(tmp_path, "numbers", {}, 2**16, (2,), np.float32)
    with pytest.raises(KeyboardInterrupt):
        large.ensure(breaks)
    assert (large.folder / "values.bin").stat().st_blocks * 512 >= 2**16 * 2 * 4


def test_two_processes_do_not_fill_a_store_twice(tmp_path: Path) -> None:
    """The second asks while the first is at work; it has to wait, and finds everything done."""
    second = threading.Thread(target=lambda: array_store(tmp_path).ensure(counting_fill))

    def slow_fill(first: int, last: int) -> np.ndarray:
        if first == 0:
            second.start()
            second.join(timeout=1)  # it would be done by now if it did not wait
        return counting_fill(first, last)

    assert array_store(tmp_path).ensure(slow_fill) == 10
    second.join()
    assert counting_fill.calls == [(0, 3), (3, 6), (6, 9), (9, 10)]  # type: ignore[attr-defined]


def digest_of(rows: np.ndarray) -> str:
    return np.asarray(rows).tobytes().hex()


def longer_store(root: Path, num_rows: int = 14) -> ArrayStore:
    return ArrayStore(root, "numbers", {"version": 1}, num_rows, (2,), np.float32)


def doubled(rows: np.ndarray) -> np.ndarray:
    doubled.rows += len(rows)  # type: ignore[attr-defined]
    return 2 * np.asarray(rows)


@pytest.mark.parametrize(
    ("damage", "computed"), [("none", 5), ("a flipped bit", 8), ("no values", 14), ("another type", 14)]
)
def test_blocks_that_are_there_already_are_taken_over(tmp_path: Path, damage: str, computed: int) -> None:
    """Three blocks are alike, and what follows is not: the shorter array ends within the fourth."""
    rows = np.arange(28, dtype=np.float32).reshape(14, 2)
    dtype = np.float64 if damage == "another type" else np.float32
    earlier = ArrayStore(tmp_path, "numbers", {"version": 0}, 10, (2,), dtype)
    doubled.rows = 0  # type: ignore[attr-defined]
    earlier.ensure(lambda first, last: rows[first:last], doubled, digest=digest_of)
    values = earlier.folder / "values.bin"
    if damage == "a flipped bit":
        data = bytearray(values.read_bytes())
        data[4 * 2 * 4] ^= 1  # row 4, in the second block
        values.write_bytes(data)
    elif damage == "no values":
        values.unlink()
    doubled.rows = 0  # type: ignore[attr-defined]
    longer = longer_store(tmp_path)
    assert longer.ensure(lambda first, last: rows[first:last], doubled, digest=digest_of) == 14
    assert doubled.rows == computed  # type: ignore[attr-defined]
    assert np.array_equal(longer.open(), 2 * rows)


def test_blocks_made_of_something_else_are_not_taken_over(tmp_path: Path) -> None:
    array_store(tmp_path).ensure(counting_fill, digest=digest_of)
    other = longer_store(tmp_path, len(ROWS) - 1)
    other.ensure(lambda first, last: -ROWS[first:last], digest=digest_of)
    assert np.array_equal(other.open(), -ROWS[:-1])
