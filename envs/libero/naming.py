"""Errors for names outside a closed set: say what was given, the nearest known name, and all of them."""

import difflib
from collections.abc import Iterable


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """Build (not raise) the error for a name that is not among the known ones.

    Args:
        kind: What the name should name, such as "suite".
        name: What was given.
        known: The names there are.
    """
    choices = sorted(known)
    nearest = difflib.get_close_matches(name, choices, n=1, cutoff=0.0)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return ValueError(f"unknown {kind} {name!r}{hint} Known: {', '.join(choices)}.")
