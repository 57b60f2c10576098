"""Fixtures of every room's tests."""

from collections.abc import Callable

import pytest

ErrorLine = Callable[[Callable[[list[str]], int], list[str]], str]


@pytest.fixture
def error_line(capsys: pytest.CaptureFixture[str]) -> ErrorLine:
    """Run a program that must refuse its arguments: exit code 2 and one line on stderr, which is returned."""

    def run(main: Callable[[list[str]], int], arguments: list[str]) -> str:
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = stop.code  # type: ignore[assignment]
        error = capsys.readouterr().err
        assert code == 2
        assert error.count("\n") == 1
        return error

    return run
