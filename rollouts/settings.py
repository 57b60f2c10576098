"""Nested settings side by side: dotted names, and what differs between two of them."""

from collections.abc import Iterator, Mapping
from typing import Any


def flatten(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of nested mappings; an empty mapping has none."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """What became of each value that is not as before, by dotted name, in the names' order."""
    old, new = dict(flatten(before)), dict(flatten(now))
    return {
        key: f"{old.get(key, 'absent')!r} became {new.get(key, 'absent')!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    }
