"""Every way in which a long program ends has its exit code and one line."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from vega_policy.cli.program import two_steps


def raises(error: BaseException) -> Callable[..., int]:
    def step(*_: object) -> int:
        raise error

    return step


def test_what_was_prepared_is_run() -> None:
    assert two_steps("vega", lambda: 3, lambda prepared: prepared + 4) == 7


@pytest.mark.parametrize(
    ("prepare", "run", "code", "line"),
    [
        (raises(ValueError("bad")), raises(AssertionError()), 2, "vega: error: bad\n"),
        (raises(OSError("full")), raises(AssertionError()), 2, "vega: error: full\n"),
        (dict, raises(FloatingPointError("nan")), 1, "vega: stopped: nan\n"),
        (dict, raises(KeyboardInterrupt()), 130, "vega: interrupted; say it again\n"),
    ],
)
def test_an_end_before_the_end_is_one_line(
    prepare: Callable[[], object],
    run: Callable[[object], int],
    code: int,
    line: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert two_steps("vega", prepare, run, go_on="say it again") == code
    assert capsys.readouterr().err == line


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(KeyError):
        two_steps("vega", dict, raises(KeyError("ours")))


def test_a_child_ends_with_its_parent() -> None:
    code = f"""
import subprocess
from vega_policy.cli.program import end_with_parent
child = ["{sys.executable}", "-c", "import time; print(1, flush=True); time.sleep(600)"]
subprocess.run(child, preexec_fn=end_with_parent())
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "1\n"
    parent.kill()
    assert parent.stdout.read() == "", "the pipe is closed: the child, which held it open as well, has ended"
