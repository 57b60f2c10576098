"""A policy behind a websocket: robots send observations, the server answers with chunks of actions.

Wire-compatible with openpi's client: a first message describes the policy, then every binary message is an
observation and every binary reply holds `actions` and `server_timing`; a text reply is an error, after which
the connection ends. Our own client wraps the observation to add a sequence number and an episode's seed.
Anything unexpected ends its connection, never the server.
"""

import hmac
import ipaddress
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from vega_policy.runtime.batching import BatchedPolicy, Batcher
from vega_policy.runtime.latency import LatencyReport, Stopwatch
from vega_policy.runtime.specs import PolicySpec
from vega_policy.runtime.wire import NO_BROWSERS, encode_array, pack, unpack

ENVELOPE = {"sequence", "seed", "observation"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listen:
    """Where and for whom to listen.

    Attributes:
        host: An address of this machine; the default is reachable from this machine only.
        port: 0 takes any free one.
        token: What clients must show; required where other machines can reach the server.
        max_message_bytes: A larger message ends its connection.
        max_wait_s: How long a request waits for others to share a batch with.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    max_message_bytes: int = 16 * 2**20
    max_wait_s: float = 0.005

    def __post_init__(self) -> None:
        if self.token is None and not _is_loopback(self.host):
            raise ValueError(
                f"expected a token because other machines can reach {self.host}; "
                "set one, or listen on 127.0.0.1"
            )
        if self.token is not None and len(self.token) < 16:
            raise ValueError("expected a token of at least 16 characters, e.g. of `openssl rand -hex 16`")


class PolicyServer:
    """Serves one policy to any number of robots."""

    def __init__(self, policy: BatchedPolicy, spec: PolicySpec, listen: Listen) -> None:
        self._policy, self._spec, self._listen = policy, spec, listen
        self.latency = LatencyReport()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Accepts connections inside the context, which gives the port."""
        listen = self._listen
        door = serve(
            self._talk,
            listen.host,
            listen.port,
            compression=None,
            max_size=listen.max_message_bytes,
            max_queue=2,
            origins=NO_BROWSERS,
            process_request=self._answer_http,
        )
        async with Batcher(self._policy, listen.max_wait_s) as self._batcher, door as server:
            yield next(iter(server.sockets)).getsockname()[1]
        log.info("latency: %s", self.latency.summary())

    def _answer_http(self, connection: ServerConnection, request: Request) -> Response | None:
        """Plain HTTP on the same port, and the door; None lets a websocket in."""
        if request.path == "/healthz":
            return connection.respond(HTTPStatus.OK, "OK\n")
        if not self._admits(request.headers.get_all("Authorization")):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "expected Authorization: Api-Key <token>\n")
        if request.path == "/metrics":
            return connection.respond(HTTPStatus.OK, self.latency.text())
        return None

    def _admits(self, shown: list[str]) -> bool:
        if self._listen.token is None:
            return True
        expected = f"Api-Key {self._listen.token}".encode()
        return len(shown) == 1 and hmac.compare_digest(shown[0].encode(errors="replace"), expected)

    async def _talk(self, connection: ServerConnection) -> None:
        """One robot, from connect to disconnect."""
        try:
            async with self._batcher.session() as session:
                await connection.send(pack(self._spec.to_message()))
                async for message in connection:
                    await connection.send(await self._reply(session, message))
        except ConnectionClosed as error:
            log.info("connection %s ended: %s", connection.remote_address, error)
        except ValueError as error:
            log.warning("refused a request of %s: %s", connection.remote_address, error)
            await _refuse(connection, CloseCode.POLICY_VIOLATION, str(error))
        except Exception as error:
            log.exception("failed to answer %s", connection.remote_address)
            await _refuse(connection, CloseCode.INTERNAL_ERROR, f"the policy failed: {error!r}")

    async def _reply(self, session: int, data: bytes | str) -> bytes:
        watch = Stopwatch()
        with watch.time("decode"):
            sequence, seed, raw = _open_envelope(unpack(data))
            observation = self._spec.check(raw)
        if seed is not None:
            await self._batcher.reset(session, seed)
        answer = await self._infer(session, observation)
        watch.spent_s |= {"wait": answer.wait_s, "inference": answer.inference_s}
        with watch.time("encode"):
            actions = encode_array(answer.chunk)
        self.latency.add(watch.spent_s)
        return pack({"actions": actions, "sequence": sequence, "server_timing": watch.in_ms()})

    async def _infer(self, session: int, observation: Mapping[str, Any]) -> Any:
        """The answer, checked; a ValueError of the policy is its own fault, not the client's."""
        try:
            answer = await self._batcher.infer(session, observation)
            self._spec.action.check("actions", answer.chunk)
        except ValueError as error:
            raise RuntimeError(str(error)) from error
        return answer


def _open_envelope(message: dict[str, Any]) -> tuple[int | None, int | None, Mapping[str, Any]]:
    """Sequence number, seed (None: the episode goes on), observation; of openpi's only the last."""
    if message.keys() != ENVELOPE:
        return None, None, message
    sequence, seed, observation = message["sequence"], message["seed"], message["observation"]
    if not _is_count(sequence) or not (seed is None or _is_count(seed)):
        raise ValueError(f"expected whole numbers >= 0, got sequence={sequence!r:.40} and seed={seed!r:.40}")
    if not isinstance(observation, Mapping):
        raise ValueError(f"expected the observation to be a map, got {type(observation).__name__}")
    return sequence, seed, observation


async def _refuse(connection: ServerConnection, code: CloseCode, reason: str) -> None:
    """Openpi's form of an error: a text message, then the end."""
    try:
        await connection.send(reason)
        await connection.close(code)
    except ConnectionClosed:
        pass


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
