"""The robot's end of the wire: a policy that lives on another machine.

Light enough for a robot's computer: numpy, msgpack and websockets. It has the harness's shape
(`reset(seed)`, `act(observation)`), so a remote policy can be examined like a local one. A lost connection is
made anew within `act`; the server then starts the episode over, with the same seed, since its memory of
past frames went with the connection.
"""

import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.frames import CloseCode
from websockets.sync.client import ClientConnection, connect

from vega_policy.runtime.specs import PolicySpec, SpecMismatchError
from vega_policy.runtime.wire import pack, unpack

REFUSALS = (CloseCode.POLICY_VIOLATION, CloseCode.MESSAGE_TOO_BIG)


class RefusedError(RuntimeError):
    """The server is there and says no, or its policy failed: asking again would not help."""


class PolicyUnavailableError(ConnectionError):
    """The server did not answer, in all attempts."""


@dataclass(frozen=True)
class Retry:
    """How often to try, and how long to wait between attempts: twice as long each time."""

    attempts: int = 5
    first_wait_s: float = 0.1
    max_wait_s: float = 5.0

    def waits_s(self) -> Iterator[float]:
        """The waits between the attempts."""
        return (min(self.max_wait_s, self.first_wait_s * 2**n) for n in range(self.attempts - 1))


class PolicyClient:
    """A connection to a `vega-serve`; for one robot and one thread."""

    def __init__(
        self,
        uri: str,
        *,
        robot: PolicySpec | None = None,
        token: str | None = None,
        timeout_s: float = 5.0,
        retry: Retry | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Connects.

        Args:
            uri: Such as `ws://192.168.0.7:8000`.
            robot: What this robot shows and plays; the policy must fit it. None checks nothing.
            token: The server's token, if it has one.
            timeout_s: For a connection to open, for a request to leave, and for its answer to arrive.
            retry: Attempts at every request.
            sleep: Waits between attempts; tests put a fake one here.

        Raises:
            ValueError: `uri` is none.
            SpecMismatchError: The policy does not fit the robot, or the server is another program.
            RefusedError: The server does not let this client in.
            PolicyUnavailableError: Nothing answers at `uri`.
        """
        self._uri, self._robot, self._token = uri, robot, token
        self._timeout_s, self._retry, self._sleep = timeout_s, retry or Retry(), sleep
        self._connection: ClientConnection | None = None
        self._spec: PolicySpec | None = None
        self._seed, self._is_fresh, self._sequence = 0, True, 0
        self.timing_ms: Mapping[str, float] = {}
        self._persist(self._connected)

    @property
    def spec(self) -> PolicySpec:
        """The policy's contract, from the server's latest hello."""
        assert self._spec is not None, "the constructor connects"
        return self._spec

    def reset(self, seed: int) -> None:
        """Starts an episode; the seed travels with the next observation."""
        self._seed, self._is_fresh = seed, True

    def act(self, observation: Mapping[str, Any]) -> NDArray[np.floating]:
        """A chunk of actions, shape (rows, action size); `timing_ms` then says where the server's time went.

        Only those parts of the observation are sent that the policy reads.

        Raises:
            ValueError: The observation lacks something, or holds numbers that are not finite.
            RefusedError: The server refused the request, or its policy failed.
            PolicyUnavailableError: No answer in any attempt.
        """
        parts = self.spec.select(observation)
        return self._persist(lambda: self._ask(parts))

    def close(self) -> None:
        """Ends the connection; `act` would open another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _persist[T](self, attempt: Callable[[], T]) -> T:
        waits_s = self._retry.waits_s()
        while True:
            try:
                return attempt()
            except (OSError, ConnectionClosed, InvalidHandshake) as error:
                self._drop()
                wait_s = next(waits_s, None)
                if wait_s is None:
                    raise PolicyUnavailableError(
                        f"expected a policy server at {self._uri}, {self._retry.attempts} attempts failed; "
                        f"the last with {error!r}"
                    ) from error
            except BaseException:
                self._drop()
                raise
            self._sleep(wait_s)

    def _ask(self, parts: Mapping[str, Any]) -> NDArray[np.floating]:
        connection = self._connected()
        self._sequence += 1
        seed = self._seed if self._is_fresh else None
        reply = self._exchange(connection, {"sequence": self._sequence, "seed": seed, "observation": parts})
        if reply.get("sequence") != self._sequence:
            raise ConnectionError(
                f"expected the reply to request {self._sequence}, got {reply.get('sequence')}"
            )
        self.spec.action.check("actions", reply.get("actions"))
        self._is_fresh, self.timing_ms = False, reply.get("server_timing", {})
        return reply["actions"]

    def _exchange(self, connection: ClientConnection, message: Mapping[str, Any]) -> dict[str, Any]:
        try:
            connection.send(pack(message))
            return _read(connection, self._timeout_s)
        except ConnectionClosed as error:
            if error.rcvd is not None and error.rcvd.code in REFUSALS:
                raise RefusedError(f"{self._uri} refused: {error.rcvd.reason}") from error
            raise

    def _connected(self) -> ClientConnection:
        if self._connection is None:
            self._connection = self._open()
            self._is_fresh = True
            self._greet(PolicySpec.from_message(_read(self._connection, self._timeout_s)))
        return self._connection

    def _greet(self, spec: PolicySpec) -> None:
        """Takes the server's contract in, and refuses another policy than that of the first connection."""
        if self._robot is not None:
            spec.refuse_mismatch(self._robot)
        if self._spec is not None and spec.revision != self._spec.revision:
            raise SpecMismatchError(
                f"expected the policy that was at {self._uri} before ({self._spec.revision}), found "
                f"{spec.revision}: start the run anew if it is the right one"
            )
        self._spec = spec

    def _open(self) -> ClientConnection:
        headers = {"Authorization": f"Api-Key {self._token}"} if self._token else None
        try:
            connection = connect(
                self._uri,
                compression=None,
                additional_headers=headers,
                max_size=16 * 2**20,
                open_timeout=self._timeout_s,
                close_timeout=self._timeout_s,
                proxy=None,
            )
        except InvalidURI as error:
            raise ValueError(f"expected a server such as ws://192.168.0.7:8000, got {self._uri}") from error
        except InvalidStatus as error:
            body = (error.response.body or b"").decode(errors="replace").strip()
            raise RefusedError(f"{self._uri} answered {error.response.status_code}: {body}") from error
        limit_sending(connection.socket, self._timeout_s)
        return connection

    def _drop(self) -> None:
        """Leaves a connection in doubt at once: the farewell could take as long as the fault did."""
        if self._connection is not None:
            with suppress(OSError):
                self._connection.socket.shutdown(socket.SHUT_RDWR)
            self._connection.close()
        self._connection = None


def _read(connection: ClientConnection, timeout_s: float) -> dict[str, Any]:
    data = connection.recv(timeout=timeout_s)
    if isinstance(data, str):
        raise RefusedError(f"the policy server refused: {data}")
    return unpack(data)


def limit_sending(link: socket.socket, timeout_s: float) -> None:
    """The library waits for ever to send to a server that has stopped reading."""
    whole_s, rest_s = divmod(timeout_s, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(whole_s), int(rest_s * 1e6)))
