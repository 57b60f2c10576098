"""The process next to an arm: what it does when the arm's device fails, and whom it lets in."""

import logging
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from fake_arm import command, state
from kinematic_arm import PERIOD_S, KinematicDriver
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from vega_policy.runtime.clock import Clock, FakeClock, SystemClock
from vega_policy.runtime.robots.base import ArmState, Command, Frame
from vega_policy.runtime.robots.deadman import Deadman
from vega_policy.runtime.robots.host import Host
from vega_policy.runtime.robots.panda import Panda
from vega_policy.runtime.robots.server import shortened
from vega_policy.runtime.wire import pack


class FlakyDriver:
    """Fails at some readings; notes its orders."""

    def __init__(self, clock: Clock, failing: range) -> None:
        self.clock, self.failing = clock, failing
        self.periods = self.readings = 0
        self.orders: list[str] = []

    def advance(self) -> dict[str, int]:
        self.periods += 1
        return {"periods": self.periods}

    def read(self) -> ArmState:
        self.readings += 1
        if self.readings in self.failing:
            raise OSError("no status packet")
        return state(self.clock.now_s())

    def move(self, command: Command) -> Command:
        self.orders.append("move")
        return command

    def stop(self) -> None:
        self.orders.append("stop")

    def newest(self) -> Frame:
        return Frame(np.zeros((2, 2, 3), np.uint8), self.clock.now_s())


def host(driver: FlakyDriver | KinematicDriver) -> Host:
    """As for a real arm: nobody can inject faults."""
    return Host(Panda(driver, {"front": driver}), driver.clock, {}, driver.advance, PERIOD_S, 0.25)


def test_a_device_that_fails_for_a_while_is_tried_again_and_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    over, driver = threading.Event(), FlakyDriver(FakeClock(), range(10, 20))

    def advance() -> dict[str, int]:
        if driver.periods == 20:
            over.set()
        return driver.advance()

    with caplog.at_level(logging.WARNING):
        replace(host(driver), advance=advance).run(over, 0, lambda _: None)
    assert driver.periods == 21
    assert [record.message for record in caplog.records] == [
        "the arm's device fails: no status packet",
        "the arm's device works again",
    ]
    assert driver.orders[-1] == "stop", "at its end"


def test_an_arm_is_stopped_when_its_process_fails() -> None:
    driver = FlakyDriver(FakeClock(), range(0))

    def advance() -> dict[str, int]:
        raise RuntimeError("the simulation has exploded")

    with pytest.raises(RuntimeError, match="exploded"):
        replace(host(driver), advance=advance).run(threading.Event(), 0, lambda _: None)
    assert driver.orders == ["stop"]


def test_an_arm_that_has_been_ended_takes_no_order() -> None:
    driver = KinematicDriver(SystemClock())
    deadman = Deadman(Panda(driver, {}), driver.clock, 0.25)
    deadman.end()
    for order in (deadman.hold, deadman.stop, lambda: deadman.command(command(0.05))):
        with pytest.raises(ConnectionError, match="is ending"):
            order()
    deadman.check()
    assert driver.moves == []


def test_a_loop_that_has_stopped_reading_does_not_keep_the_arm_from_being_stopped() -> None:
    """The socket is full of pictures: closing it takes long, and stopping the arm must not wait for that."""
    driver = FlakyDriver(SystemClock(), range(0))
    picture = np.zeros((1024, 1024, 3), np.uint8)
    driver.newest = lambda: Frame(picture, driver.clock.now_s())  # type: ignore[method-assign]
    over, ports = threading.Event(), queue.Queue[int]()
    thread = threading.Thread(target=host(driver).run, args=(over, 0, ports.put))
    thread.start()
    with connect(f"ws://127.0.0.1:{ports.get(timeout=60)}", proxy=None, max_queue=1, max_size=None) as deaf:
        deaf.send(pack({"order": "greet", "sent_s": 1.0}))
        while driver.readings < 60:
            time.sleep(0.01)
        over.set()
        while "stop" not in driver.orders:
            time.sleep(0.01)
    thread.join()
    assert driver.orders[-1] == "stop"


def exhaust(connection: ClientConnection) -> None:
    while connection.recv(timeout=60):
        pass


@contextmanager
def running(host: Host) -> Iterator[str]:
    """The address of an arm that is served in a thread."""
    ports: queue.Queue[int] = queue.Queue()
    over = threading.Event()
    thread = threading.Thread(target=host.run, args=(over, 0, ports.put))
    thread.start()
    try:
        yield f"ws://127.0.0.1:{ports.get(timeout=60)}"
    finally:
        over.set()
        thread.join()


def test_no_web_page_reaches_an_arm_and_nobody_makes_a_real_one_go_wrong() -> None:
    with running(host(KinematicDriver(SystemClock()))) as uri:
        with pytest.raises(InvalidStatus, match="403"):
            connect(uri, origin="http://a.page", proxy=None)  # type: ignore[arg-type]
        with connect(uri, proxy=None) as connection:
            connection.recv(timeout=60)
            connection.send(pack({"order": "inject", "sent_s": 1.0, "faults": {"arm_freeze": True}}))
            with pytest.raises(ConnectionClosedError, match=r"expected an order of.*'inject'"):
                exhaust(connection)


def test_a_reason_for_closing_is_cut_to_what_a_closing_message_takes() -> None:
    assert len(shortened("é" * 200).encode()) <= 123
    assert shortened("why") == "why"
