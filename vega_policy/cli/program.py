"""How a long program ends: one line on stderr, and an exit code that says whether asking again can help."""

import ctypes
import signal
import sys
from collections.abc import Callable

REFUSED, STOPPED, INTERRUPTED = 2, 1, 130
PR_SET_PDEATHSIG = 1  # linux/prctl.h
GO_ON = "the same command with --resume=true goes on"


def two_steps[Prepared](
    name: str, prepare: Callable[[], Prepared], run: Callable[[Prepared], int], *, go_on: str = GO_ON
) -> int:
    """Prepare, which refuses a wrong request before anything is computed or written; then run.

    Args:
        name: Of the program, to begin its messages with.
        prepare: Checks and loads; what it returns goes to `run`.
        run: The work; returns the exit code.
        go_on: What a person who interrupted the work can do.

    Returns:
        The exit code: that of `run`, or 2 for a refused request, 1 for work that could not go on, 130 for
        one that was interrupted.
    """
    try:
        prepared = prepare()
    except (ValueError, OSError, RuntimeError) as error:
        return _say(f"{name}: error: {error}", REFUSED)
    try:
        return run(prepared)
    except KeyboardInterrupt:
        return _say(f"{name}: interrupted; {go_on}", INTERRUPTED)
    except (ValueError, OSError, FloatingPointError) as error:
        return _say(f"{name}: stopped: {error}", STOPPED)


def end_with_parent() -> Callable[[], None]:
    """Something for a child process to begin with, so that it does not outlive its parent (Linux)."""
    prctl = ctypes.CDLL(None).prctl  # found here: between fork and exec nothing must be loaded
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _say(line: str, code: int) -> int:
    print(line, file=sys.stderr)
    return code
