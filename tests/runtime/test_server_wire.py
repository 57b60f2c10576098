"""The codec: openpi's bytes, and nothing that could hurt a server."""

import contextlib
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from openpi_client import msgpack_numpy

from vega_policy.runtime.wire import MAX_CONTAINERS, MAX_ENTRIES, WireError, pack, unpack

NUMBERS = arrays.boolean_dtypes() | arrays.integer_dtypes() | arrays.unsigned_integer_dtypes()
ARRAYS = arrays.arrays(NUMBERS | arrays.floating_dtypes(), arrays.array_shapes(min_dims=0, min_side=0))


def raw_array(**changes: Any) -> bytes:
    fields = {"__ndarray__": True, "data": bytes(8), "dtype": "<f4", "shape": [2]} | changes
    return msgpack.packb({"a": {name.encode(): value for name, value in fields.items()}})


@given(ARRAYS)
def test_arrays_survive_the_way_and_are_those_of_openpi(array: np.ndarray) -> None:
    message = {"a": array, "scalar": array.dtype.type(1)}
    assert pack(message) == msgpack_numpy.packb(message)
    came = unpack(pack(message))
    np.testing.assert_array_equal(came["a"], array)
    assert came["a"].dtype == array.dtype.newbyteorder("=")
    assert came["a"].flags.writeable
    assert came["scalar"] == message["scalar"]


@given(st.binary(max_size=200))
def test_noise_is_refused_or_a_map_and_nothing_else(data: bytes) -> None:
    with contextlib.suppress(WireError):
        assert isinstance(unpack(data), dict)


@pytest.mark.parametrize(
    "dtype", ["O", "|O", "V8", "|V8", "<c8", "<U4", "<M8[s]", "f4,f4", "(2,)f4", "<b4", 7, None]
)
def test_types_that_are_no_numbers_are_refused(dtype: Any) -> None:
    with pytest.raises(WireError, match="booleans, integers or floats"):
        unpack(raw_array(dtype=dtype))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"shape": [3]}, "expected 12 bytes"),
        ({"shape": [2**40, 2**40]}, "bytes for float32"),
        ({"shape": [-1, -2]}, "array shape"),
        ({"shape": [True, 2]}, "array shape"),
        ({"shape": 2}, "array shape"),
        ({"shape": [1] * 9}, "array shape"),
        ({"data": "text"}, "data as bytes"),
        ({"data": None}, "data as bytes"),
    ],
)
def test_shapes_that_do_not_fit_the_data_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        unpack(raw_array(**changes))


@pytest.mark.parametrize(
    "value", [np.array([object()]), np.zeros(2, "f4,f4"), np.zeros(1, complex), np.array("a")]
)
def test_the_sender_too_refuses_what_is_no_number(value: np.ndarray) -> None:
    with pytest.raises(WireError, match="booleans, integers or floats"):
        pack({"a": value})


@pytest.mark.parametrize(
    "message",
    [
        {"a": [[] for _ in range(MAX_CONTAINERS // 2)], "b": [{} for _ in range(MAX_CONTAINERS // 2)]},
        {"a": list(range(MAX_ENTRIES + 1))},
        {str(n): n for n in range(MAX_ENTRIES + 1)},
        {"a": "x" * 20_000},
        {"a": msgpack.ExtType(5, b"x")},
        {"a": {b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"}},
        {"a": {b"__npgeneric__": True, b"data": [1], b"dtype": "|u1"}},
        {1: 2},
        [1, 2],
    ],
    ids=[
        "containers",
        "long list",
        "long map",
        "long text",
        "extension",
        "overflow",
        "no number",
        "key",
        "list",
    ],
)
def test_what_breaks_a_limit_is_refused(message: Any) -> None:
    with pytest.raises(WireError):
        unpack(msgpack.packb(message))


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(WireError):
        unpack(b"\x81\xa1a" * 100_000 + b"\xc0")
