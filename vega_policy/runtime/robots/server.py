"""The arm's end of a socket: readings go out, orders come in, for one control loop at a time.

It serves any `Robot`: the simulated arm, or a real one whose driver has to run on a computer of its own. It
listens on this machine only, since whoever connects moves the arm; from elsewhere, use an SSH tunnel.

Orders are executed in the connection's thread, so the robot's orders must be safe to call from there. Where
several wait, only the newest motion is executed, after a stop if there is one among them; a command that was
long under way is not executed at all. Sending never holds up the thread that publishes: a link that is slow
misses readings, it does not get old ones.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.sync.server import ServerConnection, serve

from vega_policy.runtime.client import limit_sending
from vega_policy.runtime.clock import Clock
from vega_policy.runtime.robots.base import Reading, Robot
from vega_policy.runtime.robots.messages import command_from_message, reading_to_message
from vega_policy.runtime.wire import NO_BROWSERS, WireError, pack, unpack

logger = logging.getLogger(__name__)

PROTOCOL = "vega-arm 1"
HOST = "127.0.0.1"
MAX_REASON_BYTES = 123  # of a websocket's closing message
HANDOVER_S = 1.0  # a connection that is closing may take this long to let go of the arm
SEND_TIMEOUT_S = 1.0  # a control loop that has stopped reading is let go after this long
LATE_S, NUM_ORDERS = (
    0.25,
    64,
)  # a command this much longer under way than the fastest of the last orders is old
MOTIONS = ("command", "hold", "stop")  # of which a newer one replaces an older one
Order = Callable[[Mapping[str, Any]], object]


class ArmServer:
    """Serves a robot.

    Args:
        robot: the arm.
        clock: on which its readings are stamped.
        facts: what a control loop is told of the arm when it connects: text, numbers and arrays.
        orders: orders beyond command, hold and stop, by name.
    """

    def __init__(
        self,
        robot: Robot,
        clock: Clock,
        facts: Mapping[str, Any],
        orders: Mapping[str, Order] | None = None,
    ) -> None:
        self._clock, self._facts = clock, dict(facts)
        self._orders: dict[str, Order] = {
            "greet": lambda _: None,
            "command": lambda message: robot.command(command_from_message(message)),
            "hold": lambda _: robot.hold(),
            "stop": lambda _: robot.stop(),
            **(orders or {}),
        }
        self._news = threading.Condition()
        self._published: tuple[int, Reading, Mapping[str, Any]] | None = None
        self._echo: tuple[float, float] | None = None  # when an order was sent, there, and heard, here
        self._is_taken = threading.Lock()

    @contextmanager
    def listening(self, port: int = 0) -> Iterator[int]:
        """Listens inside the context, which gives the port; 0 takes a free one."""
        with serve(
            self._serve, HOST, port, compression=None, max_size=64 * 1024, origins=NO_BROWSERS
        ) as server:
            thread = threading.Thread(target=server.serve_forever, name="arm-server")
            thread.start()
            try:
                yield server.socket.getsockname()[1]
            finally:
                server.shutdown()
                thread.join()

    def publish(self, reading: Reading, status: Mapping[str, Any]) -> None:
        """Makes a reading the newest, with whatever else there is to say; blocks nobody."""
        with self._news:
            number = self._published[0] + 1 if self._published else 0
            self._published = number, reading, status
            self._news.notify_all()

    def _serve(self, connection: ServerConnection) -> None:
        if not self._is_taken.acquire(timeout=HANDOVER_S):
            connection.close(CloseCode.TRY_AGAIN_LATER, "another control loop has this arm")
            return
        limit_sending(connection.socket, SEND_TIMEOUT_S)
        is_over = threading.Event()
        sender = threading.Thread(target=self._send_news, args=(connection, is_over), name="arm-sender")
        try:
            connection.send(pack({"protocol": PROTOCOL, **self._facts}))
            sender.start()
            self._obey(connection)
        except (ValueError, OSError) as error:
            logger.warning("a control loop is sent away: %s", error)
            connection.close(CloseCode.POLICY_VIOLATION, shortened(str(error)))
        except ConnectionClosed:
            logger.warning("the control loop is gone")
        finally:
            is_over.set()
            if sender.ident is not None:
                sender.join()
            self._echo = None
            self._is_taken.release()

    def _obey(self, connection: ServerConnection) -> None:
        under_way_s: deque[float] = deque(maxlen=NUM_ORDERS)  # but for the clocks' difference
        for data in connection:
            messages: list[dict[str, Any]] = []
            try:
                for one in (data, *_waiting(connection)):
                    messages.append(self._understood(unpack(one)))
            finally:  # what came before nonsense counts, a stop above all
                self._execute(messages, under_way_s)

    def _execute(self, messages: Sequence[Mapping[str, Any]], under_way_s: deque[float]) -> None:
        heard_s = self._clock.now_s()
        for message in newest_motion(messages):
            under_way_s.append(heard_s - message["sent_s"])
            late_s = under_way_s[-1] - min(under_way_s)
            if late_s > LATE_S and message["order"] == "command":
                logger.warning("a command came %.2f s late and is not executed", late_s)
            else:
                self._orders[message["order"]](message)
            self._echo = message["sent_s"], heard_s

    def _understood(self, message: dict[str, Any]) -> dict[str, Any]:
        """An order that can be executed.

        Raises:
            WireError: It is none, or does not say when it was sent.
        """
        if message.get("order") not in self._orders:
            raise WireError(f"expected an order of {sorted(self._orders)}, got {message.get('order')!r:.80}")
        if not isinstance(sent_s := message.get("sent_s"), float):
            raise WireError(f"expected an order to say when it was sent, got {sent_s!r:.80}")
        return message

    def _send_news(self, connection: ServerConnection, is_over: threading.Event) -> None:
        last, sent_frames_s = -1, dict[str, float]()
        with suppress(ConnectionClosed, OSError):
            while not is_over.is_set():
                published = self._newer_than(last)
                if published is None or (echo := self._echo) is None:
                    continue
                last, reading, status = published
                message = reading_to_message(reading, sent_frames_s)
                connection.send(pack({**message, "status": dict(status), "echo": list(echo)}))
                sent_frames_s = {name: frame.time_s for name, frame in reading.frames.items()}

    def _newer_than(self, number: int) -> tuple[int, Reading, Mapping[str, Any]] | None:
        with self._news:
            self._news.wait_for(
                lambda: self._published is not None and self._published[0] > number, timeout=0.1
            )
            return self._published if self._published and self._published[0] > number else None


def _waiting(connection: ServerConnection) -> Iterator[Any]:
    """What has arrived meanwhile; a connection that has ended is noticed by whoever reads on."""
    with suppress(TimeoutError, ConnectionClosed):
        for _ in range(NUM_ORDERS):
            yield connection.recv(timeout=0)


def newest_motion(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Orders without those motions that a later one replaces; the last stop is never replaced."""
    orders = [message["order"] for message in messages]
    motions = [index for index, order in enumerate(orders) if order in MOTIONS]
    stops = [index for index in motions if orders[index] == "stop"]
    replaced = set(motions) - {*motions[-1:], *stops[-1:]}
    return [message for index, message in enumerate(messages) if index not in replaced]


def shortened(reason: str) -> str:
    """What of a reason fits into a closing message."""
    return reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
