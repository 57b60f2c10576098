"""Messages between robot and policy server: msgpack maps whose numpy arrays are openpi's.

An array is the map `{b"__ndarray__": True, b"data": bytes, b"dtype": "<f4", b"shape": [8, 7]}`, so openpi's
own client and server understand it. What comes in is untrusted: nothing is unpickled, and every count, size,
type and shape is checked before memory is allocated for it.
"""

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

MAX_AXES = 8
MAX_CONTAINERS = 512  # maps and lists of one message, arrays included
MAX_ENTRIES = 256  # of one map or list
MAX_TEXT_BYTES = 16 * 1024
NO_BROWSERS = [None]  # a browser names an Origin: no web page may drive a robot through a person's machine
NUMBER = re.compile(r"[<>|=]?([biu][1248]|f[248])")


class WireError(ValueError):
    """A message that this protocol does not allow; its text is meant for the sender."""


def pack(message: Mapping[str, Any]) -> bytes:
    """Encodes a message of text, numbers, lists, maps and numeric numpy arrays.

    Raises:
        WireError: An array has a type other than booleans, integers and floats.
        TypeError: It holds something else altogether.
    """
    return msgpack.packb(message, default=encode_array)


def unpack(data: bytes | str) -> dict[str, Any]:
    """Decodes a message; its arrays are writable and in the machine's byte order.

    Raises:
        WireError: It is not a map in msgpack, or something in it breaks a limit.
    """
    if isinstance(data, str):
        raise WireError("expected a binary msgpack message, got text")
    count = _Count()
    try:
        message = msgpack.unpackb(
            data,
            object_hook=functools.partial(_decode_map, count),
            list_hook=count.container,
            max_array_len=MAX_ENTRIES,
            max_map_len=MAX_ENTRIES,
            max_str_len=MAX_TEXT_BYTES,
            max_ext_len=0,
        )
    except WireError:
        raise
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"expected a msgpack message within its limits, got: {error!r}") from error
    if not isinstance(message, dict):
        raise WireError(f"expected a map, got {type(message).__name__}")
    return message


def encode_array(value: Any) -> Any:
    """The wire's form of a numpy array or scalar.

    Raises:
        WireError: Its type is not numeric.
        TypeError: It is not of numpy.
    """
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"expected text, numbers, lists, maps or arrays, got {type(value).__name__}")
    dtype = _number_type(value.dtype.str)
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": dtype.str}
    return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": dtype.str, b"shape": value.shape}


class _Count:
    """Bounds the work of decoding: nested containers are cheap to send and slow to build."""

    def __init__(self) -> None:
        self._containers = 0

    def container[T](self, value: T) -> T:
        self._containers += 1
        if self._containers > MAX_CONTAINERS:
            raise WireError(f"expected at most {MAX_CONTAINERS} maps and lists in a message")
        return value


def _decode_map(count: _Count, value: dict[Any, Any]) -> Any:
    count.container(value)
    if b"__ndarray__" in value:
        return _decode_array(value)
    if b"__npgeneric__" in value:
        return _decode_scalar(value)
    return value


def _decode_array(value: dict[Any, Any]) -> NDArray[Any]:
    dtype = _number_type(value.get(b"dtype"))
    shape, data = value.get(b"shape"), value.get(b"data")
    if not isinstance(shape, list) or len(shape) > MAX_AXES or not all(_is_length(axis) for axis in shape):
        raise WireError(f"expected an array shape of at most {MAX_AXES} lengths, got {shape!r:.80}")
    if not isinstance(data, bytes):
        raise WireError(f"expected an array's data as bytes, got {type(data).__name__}")
    if len(data) != (expected := math.prod(shape) * dtype.itemsize):
        raise WireError(f"expected {expected} bytes for {dtype} of shape {shape}, got {len(data)}")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _decode_scalar(value: dict[Any, Any]) -> np.generic:
    dtype, number = _number_type(value.get(b"dtype")), value.get(b"data")
    if not isinstance(number, bool | int | float):
        raise WireError(f"expected a number, got {type(number).__name__}")
    try:
        return dtype.newbyteorder("=").type(number)
    except (OverflowError, ValueError) as error:
        raise WireError(f"expected a number that fits {dtype}, got {number}") from error


def _is_length(axis: Any) -> bool:
    return isinstance(axis, int) and not isinstance(axis, bool) and axis >= 0


def _number_type(name: Any) -> "np.dtype[Any]":
    """The type by its numpy name; objects, records and text are not data that a policy reads."""
    try:
        if isinstance(name, str) and NUMBER.fullmatch(name):
            return np.dtype(name)
    except TypeError:  # well formed and yet no type, such as b4
        pass
    raise WireError(f"expected an array of booleans, integers or floats, got type {name!r:.80}")
