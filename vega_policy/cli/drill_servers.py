"""Policy servers of the drills, in processes that can be killed, and the slow way to them."""

import asyncio
import multiprocessing
import socket
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from vega_policy.runtime.batching import OneByOne
from vega_policy.runtime.drill import ToAndFro
from vega_policy.runtime.server import Listen, PolicyServer
from vega_policy.runtime.specs import libero_spec

SPAWN = multiprocessing.get_context("spawn")
RATE_HZ = 20.0


class Proxy:
    """A way to a server that can be slow, and that can lead to another server.

    Args:
        target: port of the server.
        speed: of the drill's clocks, for delays.
    """

    def __init__(self, target: int, speed: float) -> None:
        self.target, self.delay_s = target, 0.0
        self._speed = speed
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Takes no further connection."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    client.close()
                    continue
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        """Half of the delay each way; what comes meanwhile waits in the socket, as behind a slow link."""
        with suppress(OSError):
            while data := source.recv(1 << 20):
                time.sleep(self.delay_s / 2 / self._speed)
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Servers:
    """Policy servers in processes of their own, each used until a drill kills it."""

    def __init__(self, middle_m: float) -> None:
        self._middle_m = middle_m
        self._running: list[tuple[BaseProcess, int, Connection]] = []

    def ports(self, count: int) -> list[int]:
        """The ports of as many servers as are needed, which are started if they do not run yet."""
        while len(self._running) < count:
            here, there = SPAWN.Pipe()
            process = SPAWN.Process(target=serve_to_and_fro, args=(self._middle_m, there), daemon=True)
            process.start()
            self._running.append((process, here.recv(), here))
        return [port for _, port, _ in self._running[:count]]

    def kill_first(self) -> None:
        """Kills the server whose port is the first."""
        self._running.pop(0)[0].kill()


def serve_to_and_fro(middle_m: float, announce: Connection) -> None:
    """Runs a policy server in the calling process, for as long as its parent lives."""
    spec = libero_spec(("image", "image2"), 7, RATE_HZ, "to and fro")
    server = PolicyServer(OneByOne(lambda: ToAndFro(middle_m)), spec, Listen(port=0))

    async def run() -> None:
        async with server.listening() as port:
            announce.send(port)
            await asyncio.to_thread(announce.poll, None)  # until the other end is closed

    asyncio.run(run())
