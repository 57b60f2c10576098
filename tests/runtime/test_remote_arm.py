"""An arm in another process: real sockets, no assertion on how long anything took."""

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from fake_arm import command
from kinematic_arm import arm_process, connected, host
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from vega_policy.runtime.clock import FakeClock, SystemClock
from vega_policy.runtime.robots.messages import command_to_message
from vega_policy.runtime.robots.remote import RemoteArm
from vega_policy.runtime.robots.server import ArmServer, newest_motion
from vega_policy.runtime.wire import WireError, pack, unpack


@pytest.fixture(scope="module")
def uri() -> Iterator[str]:
    with arm_process() as (_, uri):
        yield uri


def use(arm: RemoteArm, order: Callable[[RemoteArm], None]) -> None:
    for _ in range(1000):
        arm.read()
        order(arm)
        time.sleep(0.01)


def exhaust(connection: ClientConnection) -> None:
    for _ in range(100):
        connection.recv(timeout=10)


def wait_for(arm: RemoteArm, name: str, value: object) -> None:
    deadline = time.monotonic() + 30
    while arm.read() and arm.status[name] != value:
        assert time.monotonic() < deadline, f"{name} stays {arm.status[name]}"
        time.sleep(0.01)


class Stopping:
    """A robot that notes its stops."""

    def __init__(self, stops: list[int]) -> None:
        self._stops = stops

    def stop(self) -> None:
        self._stops.append(1)


@pytest.mark.parametrize(
    ("orders", "executed"),
    [
        ("greet command command", "greet command"),
        ("command stop command command", "stop command"),
        ("stop command stop", "stop"),
        ("command hold inject", "hold inject"),
        ("stop hold command stop inject hold", "stop inject hold"),
    ],
)
def test_of_waiting_orders_the_newest_motion_and_the_last_stop_count(orders: str, executed: str) -> None:
    messages = [{"order": order, "number": number} for number, order in enumerate(orders.split())]
    found = newest_motion(messages)
    assert [message["order"] for message in found] == executed.split()
    assert [message["number"] for message in found] == sorted(message["number"] for message in found)
    assert found[-1] is messages[-1]


def test_a_stop_before_nonsense_is_executed() -> None:
    """Both wait to be read: the loop that sends nonsense is sent away, but its stop counts."""
    stops: list[int] = []
    server = ArmServer(Stopping(stops), SystemClock(), {})  # type: ignore[arg-type]
    received = [pack({"order": "nonsense", "sent_s": 0.0})]

    class Connection:
        def __iter__(self) -> Iterator[bytes]:
            yield pack({"order": "stop", "sent_s": 0.0})

        def recv(self, timeout: float) -> bytes:
            if not received:
                raise TimeoutError
            return received.pop()

    with pytest.raises(WireError, match="'nonsense'"):
        server._obey(Connection())  # type: ignore[arg-type]
    assert stops == [1]


def test_a_command_that_was_long_under_way_is_not_executed(uri: str) -> None:
    clock = SystemClock()
    with connect(uri, proxy=None) as loop:
        loop.recv(timeout=10)

        def order(name: str, sent_s: float, **details: object) -> None:
            loop.send(pack({"order": name, "sent_s": sent_s, **details}))

        order("greet", clock.now_s())
        first = unpack(loop.recv(timeout=10))
        order("command", clock.now_s() - 1.0, **command_to_message(command(0.05)))
        order("hold", clock.now_s())
        for _ in range(20):
            last = unpack(loop.recv(timeout=10))
        np.testing.assert_allclose(
            last["status"]["true_position_m"], first["status"]["true_position_m"], atol=1e-6
        )


def test_readings_arrive_and_orders_are_executed(uri: str) -> None:
    with connected(uri) as arm:
        assert arm.facts["task"] == "pick up the bowl"
        before = arm.read()
        assert before.frames.keys() == {"image", "image2"}
        for _ in range(20):
            arm.command(command(0.05))
            time.sleep(0.02)
        periods = arm.status["periods"]
        while arm.read() and arm.status["periods"] < periods + 3:
            time.sleep(0.01)
        after = arm.read()
        assert after.state.position_m[0] > before.state.position_m[0] + 0.01
        assert after.state.time_s > before.state.time_s
        assert after.frames["image"].time_s > before.frames["image"].time_s
        assert after.frames["image"].pixels.shape == (32, 32, 3)


def test_times_are_on_the_loops_clock_and_never_from_the_future(uri: str) -> None:
    clock = FakeClock(
        5.0
    )  # which stands still, so what is measured after the greeting may look older than 5 s
    arm = RemoteArm(uri, clock)
    assert arm.read().state.time_s == pytest.approx(5.0, abs=30.0)
    arm.close()
    with connected(uri) as again:
        reading, now_s = again.read(), SystemClock().now_s()
        times_s = [reading.state.time_s, *(frame.time_s for frame in reading.frames.values())]
        assert all(0 <= now_s - time_s < 30 for time_s in times_s)


def test_an_arm_whose_loop_is_gone_holds_by_itself(uri: str) -> None:
    with connected(uri) as arm:
        silences = arm.status["silences"]
        arm.command(command(0.05))
    with connected(uri) as arm:
        wait_for(arm, "silences", silences + 1)
        arm.hold()
        wait_for(arm, "silences", silences + 2)


def test_injected_faults_reach_the_arm_and_end_again(uri: str) -> None:
    with connected(uri) as arm:
        arm.inject(camera_freeze=True)
        frozen_s = None
        for _ in range(3):
            periods = arm.status["periods"]
            while arm.status["periods"] < periods + 5:
                arm.read()
            if frozen_s is not None:
                assert arm.read().frames["image"].time_s == pytest.approx(frozen_s)
            frozen_s = arm.read().frames["image"].time_s
        arm.inject(camera_freeze=False)
        deadline = time.monotonic() + 30
        while arm.read().frames["image"].time_s == frozen_s:
            assert time.monotonic() < deadline


def test_an_arm_that_hangs_goes_quiet_and_one_that_died_is_an_error() -> None:
    with arm_process() as (process, uri), connected(uri) as arm:
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        arm.read()
        last_s = arm.read().state.time_s
        time.sleep(0.2)
        assert arm.read().state.time_s == last_s, "the age of the reading is the guard's business"
        process.kill()
        process.wait()
        with pytest.raises(ConnectionError, match="connection to the arm is lost"):
            use(arm, RemoteArm.hold)


def test_two_loops_cannot_have_one_arm(uri: str) -> None:
    with connected(uri), pytest.raises(OSError, match="another control loop"):
        RemoteArm(uri, FakeClock())


@pytest.mark.parametrize(
    "message",
    [
        b"\xc1",
        pack({"order": "comand", "sent_s": 1.0}),
        pack({"order": "hold"}),
        pack({"order": "command", "sent_s": 1.0, "translation_m": np.zeros(2)}),
        pack({"order": "inject", "sent_s": 1.0, "faults": {"fire": True}}),
    ],
    ids=["no msgpack", "unknown order", "no time", "wrong shape", "unknown fault"],
)
def test_whoever_sends_nonsense_is_sent_away_and_the_arm_stays(uri: str, message: bytes) -> None:
    with connect(uri, proxy=None) as connection:
        connection.recv()
        connection.send(message)
        with pytest.raises(ConnectionClosedError, match=r"1008"):
            exhaust(connection)
    with connected(uri) as arm:
        assert np.isfinite(arm.read().state.position_m).all()


def test_an_order_with_numbers_that_are_not_finite_does_not_reach_the_arm(uri: str) -> None:
    with connected(uri) as arm:
        arm.command(command(float("nan")))
        with pytest.raises(OSError, match="expected translation_m to be finite"):
            use(arm, lambda _: None)


def test_after_a_long_pause_the_news_is_new(uri: str) -> None:
    """A person may think for a while between connecting and saying go."""
    clock = SystemClock()
    with connected(uri) as arm:
        periods = arm.status["periods"]
        while arm.status["periods"] < periods + 60:  # more than any buffer on the way holds
            time.sleep(0.05)
        before_s = clock.now_s()
        deadline = time.monotonic() + 30
        while arm.read().state.time_s < before_s - 0.5:
            assert time.monotonic() < deadline, "old readings are still coming in"
        assert arm.status["periods"] >= periods + 60


def test_an_arm_whose_process_was_started_anew_is_found_again() -> None:
    """Nothing moves it before a person has said go: the fault of the silence is latched in the loop."""
    with running_host() as port:
        arm = RemoteArm(f"ws://127.0.0.1:{port}", SystemClock())
    with pytest.raises(ConnectionError, match="connection to the arm is lost"):
        use(arm, RemoteArm.hold)
    with running_host(port):
        deadline = time.monotonic() + 60
        while not answers(arm):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        arm.stop()
        arm.close()


def answers(arm: RemoteArm) -> bool:
    try:
        arm.read()
    except ConnectionError:
        return False
    return True


@contextmanager
def running_host(port: int = 0) -> Iterator[int]:
    """An arm served in a thread, and its port."""
    served, ports, over = host(1.0), queue.Queue[int](), threading.Event()
    thread = threading.Thread(target=served.run, args=(over, port, ports.put))
    thread.start()
    try:
        yield ports.get(timeout=60)
    finally:
        over.set()
        thread.join()


def test_whatever_is_no_arm_is_left_at_once() -> None:
    is_left = threading.Event()

    def talk(connection: ServerConnection) -> None:
        connection.send(pack({"protocol": "another"}))
        with suppress(ConnectionClosed):
            connection.recv(timeout=60)
        if connection.state is not State.OPEN:
            is_left.set()

    with serve(talk, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        with pytest.raises(ConnectionError, match="its first message is"):
            RemoteArm(f"ws://127.0.0.1:{port}", FakeClock())
        assert is_left.wait(30)
        server.shutdown()
        thread.join()


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="such as ws://"):
        RemoteArm("127.0.0.1:9000", FakeClock())
