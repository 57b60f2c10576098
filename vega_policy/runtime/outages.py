"""Troubles in the log once each, not once for every period that they last."""

import logging


class Outages:
    """Says when something begins to fail, fails in another way, and works again.

    Args:
        logger: takes the lines.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._under_way: dict[str, str] = {}

    def note(self, what: str, error: object) -> None:
        """What failed, and how; logged unless it is known."""
        if self._under_way.get(what) != str(error):
            self._under_way[what] = str(error)
            self._logger.error("%s fails: %s", what, error)

    def over(self, what: str) -> None:
        """What works; logged if it had failed."""
        if self._under_way.pop(what, None) is not None:
            self._logger.warning("%s works again", what)
