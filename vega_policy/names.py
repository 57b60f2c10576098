"""One way to say that a name is unknown."""

import difflib
from collections.abc import Iterable


def nearest_name_error(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """An error that names the known choices and the one most like `name`."""
    choices = sorted(known)
    nearest = difflib.get_close_matches(name, choices, n=1, cutoff=0.0)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return ValueError(f"unknown {kind} {name!r}: expected one of {', '.join(choices)}{hint}")
