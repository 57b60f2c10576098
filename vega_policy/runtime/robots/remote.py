"""An arm in another process, behind the same interface as one in this.

Times arrive on the other process's clock. They are shifted by the largest difference seen between the moment
an order left here and the moment it was heard there: as an order takes time, the true difference is at least
as large, so a measurement can look older than it is but never younger, and a slow way back shows in full.
"""

import threading
from collections import deque
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect

from vega_policy.runtime.client import limit_sending
from vega_policy.runtime.clock import Clock
from vega_policy.runtime.robots.base import Command, Frame, Reading
from vega_policy.runtime.robots.messages import command_to_message, reading_from_message
from vega_policy.runtime.robots.server import PROTOCOL
from vega_policy.runtime.wire import WireError, pack, unpack

CONNECT_TIMEOUT_S = 5.0  # wall time
RECONNECT_S = 1.0  # wall time between attempts
SEND_TIMEOUT_S = 0.02  # an order that does not even leave: a fraction of a period
NUM_ECHOES = 64
"""Orders from which the clocks' difference is found: 3 s at 20 Hz, in which no two clocks drift apart."""


class RemoteArm:
    """A connection to an `ArmServer`; a `Robot`.

    A connection that is lost is made anew in the background, once a second. Until then every call fails, and
    what the control loop does after that is its own decision.

    Attributes:
        facts: what the arm's process said of it.
        status: what it said beside the newest reading.
    """

    def __init__(self, uri: str, clock: Clock) -> None:
        """Connects and waits for the first reading.

        Args:
            uri: such as `ws://127.0.0.1:9000`.
            clock: the control loop's.

        Raises:
            ValueError: `uri` is none.
            OSError: Nothing answers there, or it is no arm, or another control loop has it.
        """
        self._uri, self._clock = uri, clock
        self._offsets_s: deque[float] = deque(maxlen=NUM_ECHOES)
        self._reading: Reading | None = None
        self._failure: ConnectionError | None = None
        self._is_closed = threading.Event()
        self.facts: dict[str, Any] = {}
        self.status: dict[str, Any] = {}
        self._connection = self._connected()
        threading.Thread(target=self._keep_listening, name="remote-arm", daemon=True).start()

    def read(self) -> Reading:
        """The newest reading that has arrived; it ages if none does."""
        if (failure := self._failure) is not None:  # read once: the connection may come back meanwhile
            raise ConnectionError(str(failure))
        assert self._reading is not None
        return self._reading

    def command(self, command: Command) -> Command:
        """Sends an order; it does not come back, so what is returned is what was sent from here."""
        self._order("command", **command_to_message(command))
        return command

    def hold(self) -> None:
        """Sends an order."""
        self._order("hold")

    def stop(self) -> None:
        """Sends an order."""
        self._order("stop")

    def inject(self, **faults: float | bool) -> None:
        """Has a simulated arm go wrong; see `Faults`."""
        self._order("inject", faults=faults)

    def close(self) -> None:
        """Ends the connection; the arm then holds by itself."""
        self._is_closed.set()
        self._connection.close()

    def _order(self, name: str, **details: Any) -> None:
        self._send(self._connection, name, **details)

    def _send(self, connection: ClientConnection, name: str, **details: Any) -> None:
        try:
            connection.send(pack({"order": name, "sent_s": self._clock.now_s(), **details}))
        except ConnectionClosed as error:
            raise ConnectionError(f"the connection to the arm is lost: {error}") from error

    def _connected(self) -> ClientConnection:
        """A connection over which a first reading has come.

        Raises:
            OSError: Nothing answers there, or it is no arm, or another one than before.
        """
        connection = _open(self._uri)
        try:
            facts = _receive(connection, CONNECT_TIMEOUT_S)
            if facts.pop("protocol", None) != PROTOCOL:
                raise ConnectionError(f"expected an arm at {self._uri}, its first message is {facts!r:.200}")
            if self.facts and pack(facts) != pack(self.facts):
                raise ConnectionError(f"expected the arm that was at {self._uri} before, found another")
            self.facts = facts
            self._offsets_s.clear()
            self._send(connection, "greet")
            self._take_in(_receive(connection, CONNECT_TIMEOUT_S))
        except BaseException:
            connection.close()
            raise
        return connection

    def _keep_listening(self) -> None:
        """Takes everything in as it comes: a backlog would be old news when a person has said go."""
        while not self._is_closed.is_set():
            try:
                while True:
                    self._take_in(_receive(self._connection, timeout_s=None))
            except ConnectionError as error:
                self._failure = error
            self._connect_anew()

    def _connect_anew(self) -> None:
        while not self._is_closed.wait(RECONNECT_S):
            try:
                self._connection = self._connected()
            except OSError:  # those who call are told why the old connection was lost
                continue
            self._failure = None
            break
        if self._is_closed.is_set():
            self._connection.close()

    def _take_in(self, message: dict[str, Any]) -> None:
        known: dict[str, Frame] = dict(self._reading.frames) if self._reading else {}
        try:
            sent_s, heard_s = message["echo"]
            self._offsets_s.append(sent_s - heard_s)
            self._reading = reading_from_message(message, known, max(self._offsets_s))
            self.status = message["status"]
        except (WireError, KeyError, TypeError, ValueError) as error:
            raise ConnectionError(f"the arm sent something else than a reading: {error!r}") from error


def _open(uri: str) -> ClientConnection:
    try:
        connection = connect(
            uri,
            compression=None,
            max_size=16 * 2**20,
            open_timeout=CONNECT_TIMEOUT_S,
            close_timeout=1.0,
            ping_interval=None,  # ages say more, and sooner
            proxy=None,
        )
    except InvalidURI as error:
        raise ValueError(f"expected an arm's address such as ws://127.0.0.1:9000, got {uri}") from error
    except InvalidHandshake as error:
        raise ConnectionError(f"expected an arm at {uri}, the connection failed: {error}") from error
    limit_sending(connection.socket, SEND_TIMEOUT_S)
    return connection


def _receive(connection: ClientConnection, timeout_s: float | None) -> dict[str, Any]:
    try:
        return unpack(connection.recv(timeout=timeout_s))
    except ConnectionClosed as error:
        raise ConnectionError(f"the connection to the arm is lost: {error}") from error
    except WireError as error:
        raise ConnectionError(f"the arm sent something else than a reading: {error}") from error
