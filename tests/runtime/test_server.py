"""The server over real sockets: openpi's client, the door, and clients that behave badly."""

import functools
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import numpy as np
import pytest
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from served import SPEC, Obedient, observation, served
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from vega_policy.runtime.client import PolicyClient
from vega_policy.runtime.server import Listen
from vega_policy.runtime.specs import PolicySpec
from vega_policy.runtime.wire import pack

TOKEN = "a token of some length"
PATIENCE_S = 60.0


def read(url: str, token: str | None = None) -> tuple[int, str]:
    headers = {"Authorization": f"Api-Key {token}"} if token else {}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=PATIENCE_S
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@contextmanager
def raw_client(port: int, **options: Any) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{port}", compression=None, proxy=None, **options) as connection:
        connection.recv(timeout=PATIENCE_S)
        yield connection


def client(port: int) -> PolicyClient:
    return PolicyClient(f"ws://127.0.0.1:{port}", timeout_s=PATIENCE_S)


def read_only() -> dict[str, Any]:
    return SPEC.select(observation())


def test_openpis_client_connects_and_gets_actions() -> None:
    with served() as port:
        policy = WebsocketClientPolicy("127.0.0.1", port)
        assert PolicySpec.from_message(policy.get_server_metadata()) == SPEC
        for count in (1, 2):
            reply = policy.infer(read_only() | {"state/x": np.full(2, 0.5, np.float32)})
            np.testing.assert_array_equal(reply["actions"][:, :3], [[0, count, 0.5]] * 2)
        stages = {"decode_ms", "wait_ms", "inference_ms", "encode_ms"}
        assert reply["server_timing"].keys() == stages
        assert all(spent_ms >= 0 for spent_ms in reply["server_timing"].values())


def test_openpis_client_is_told_what_was_wrong() -> None:
    with served() as port:
        policy = WebsocketClientPolicy("127.0.0.1", port)
        with pytest.raises(
            RuntimeError, match=r"state/x to be float of shape \(2\), got float of shape \(3\)"
        ):
            policy.infer(read_only() | {"state/x": np.zeros(3)})


def test_health_and_latency_over_http() -> None:
    with served() as port:
        assert read(f"http://127.0.0.1:{port}/healthz") == (200, "OK\n")
        with client(port) as policy:
            policy.act(observation())
            policy.act(observation())
        status, text = read(f"http://127.0.0.1:{port}/metrics")
    assert status == 200
    for stage in ("decode", "wait", "inference", "encode"):
        assert f'vega_serve_seconds_count{{stage="{stage}"}} 2' in text
        assert f'vega_serve_seconds_bucket{{stage="{stage}",le="+Inf"}} 2' in text


def test_health_answers_while_the_policy_thinks() -> None:
    policy = Obedient()
    policy.may_answer.clear()
    with served(policy) as port, raw_client(port) as robot:
        robot.send(pack(read_only()))
        assert policy.is_asked.wait(PATIENCE_S)
        assert read(f"http://127.0.0.1:{port}/healthz") == (200, "OK\n")
        policy.may_answer.set()
        assert isinstance(robot.recv(timeout=PATIENCE_S), bytes)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "robot.lab", ""])
def test_no_other_machine_is_served_without_a_token(host: str) -> None:
    with pytest.raises(ValueError, match="expected a token because other machines can reach"):
        Listen(host)
    assert Listen(host, token=TOKEN).token == TOKEN


def test_a_short_token_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 characters"):
        Listen(token="secret")


def test_only_who_shows_the_token_is_let_in() -> None:
    with served(token=TOKEN) as port:
        reply = WebsocketClientPolicy("127.0.0.1", port, api_key=TOKEN).infer(read_only())
        assert reply["actions"].shape == (2, 7)
        for wrong in (None, "another token of it", TOKEN + "x", "\u00e9" * 20):
            headers = {"Authorization": f"Api-Key {wrong}"} if wrong else None
            with pytest.raises(InvalidStatus) as caught:
                connect(f"ws://127.0.0.1:{port}", additional_headers=headers, proxy=None)
            assert caught.value.response.status_code == 401
        assert read(f"http://127.0.0.1:{port}/healthz")[0] == 200
        assert read(f"http://127.0.0.1:{port}/metrics")[0] == 401
        assert read(f"http://127.0.0.1:{port}/metrics", TOKEN)[0] == 200


def test_a_web_page_is_not_let_in() -> None:
    with served() as port, pytest.raises(InvalidStatus) as caught:
        connect(f"ws://127.0.0.1:{port}", origin=Origin("http://elsewhere.example"), proxy=None)
    assert caught.value.response.status_code == 403


BAD: dict[str, tuple[bytes | str, str]] = {
    "text": ("hello", "expected a binary"),
    "noise": (b"\xc1", "expected a msgpack message"),
    "list": (msgpack.packb([1]), "expected a map"),
    "pickle": (
        msgpack.packb({"image": {b"__ndarray__": True, b"data": b"cos", b"dtype": "|O", b"shape": [1]}}),
        "booleans, integers or floats",
    ),
    "missing": (pack({"task": ""}), "expected the observation to hold state/x, image"),
    "unknown": (pack({**SPEC.select(observation()), "more": 1}), "got also more"),
    "not finite": (pack(SPEC.select(observation()) | {"state/x": np.full(2, np.nan)}), "finite"),
    "sequence": (pack({"sequence": -1, "seed": None, "observation": {}}), "whole numbers"),
    "seed": (pack({"sequence": 1, "seed": "one", "observation": {}}), "whole numbers"),
    "envelope": (pack({"sequence": 1, "seed": None, "observation": 3}), "observation to be a map"),
}


@pytest.mark.parametrize(("message", "reason"), BAD.values(), ids=BAD.keys())
def test_bad_input_ends_its_own_connection_only(message: bytes | str, reason: str) -> None:
    with served() as port, client(port) as good:
        assert good.act(observation(x=1))[0, 1] == 1
        with raw_client(port) as bad:
            bad.send(message)
            answer = bad.recv(timeout=PATIENCE_S)
            assert isinstance(answer, str)
            assert reason in answer
            with pytest.raises(ConnectionClosed) as caught:
                bad.recv(timeout=PATIENCE_S)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1008
        assert good.act(observation(x=1))[0, 1] == 2, "the same session goes on"


def test_a_message_too_big_ends_its_own_connection_only() -> None:
    with served(max_message_bytes=1000) as port, client(port) as good, raw_client(port) as bad:
        bad.send(pack(SPEC.select(observation(side_px=100))))
        with pytest.raises(ConnectionClosed) as caught:
            bad.recv(timeout=PATIENCE_S)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009
        assert good.act(observation())[0, 1] == 1


@pytest.mark.parametrize(("task", "reason"), [("raise", "the policy is unwell"), ("nan", "finite")])
def test_a_policy_that_fails_for_one_goes_on_for_another(task: str, reason: str) -> None:
    with served() as port, client(port) as good, raw_client(port) as bad:
        bad.send(pack(SPEC.select(observation(task))))
        answer = bad.recv(timeout=PATIENCE_S)
        assert isinstance(answer, str)
        assert reason in answer
        assert good.act(observation())[0, 1] == 1


def test_a_robot_that_does_not_read_holds_up_nobody() -> None:
    request = pack(SPEC.select(observation("long")))
    policy = Obedient()
    with served(policy) as port, client(port) as good, raw_client(port, max_queue=1) as slow:
        for _ in range(60):  # 27 MB of answers, more than the sockets and both libraries hold
            slow.send(request)
        for count in range(1, 81):
            assert good.act(observation())[0, 1] == count
        assert 0 < policy.tasks.count("long") < 60
        slow.socket.shutdown(socket.SHUT_RDWR)  # a farewell would wait for the answers before it


def test_robots_side_by_side_get_their_own_actions() -> None:
    def drive(port: int, robot: int, wrong: list[Any]) -> None:
        with client(port) as policy:
            policy.reset(seed=robot)
            chunks = [policy.act(observation(x=100 * robot + step)) for step in range(20)]
        expected = [[robot, step + 1, 100 * robot + step] for step in range(20)]
        if [chunk[0, :3].tolist() for chunk in chunks] != expected:
            wrong.append((robot, chunks))

    wrong: list[Any] = []
    with served() as port:
        run_together([functools.partial(drive, port, robot, wrong) for robot in range(3)])
    assert not wrong


def run_together(functions: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
