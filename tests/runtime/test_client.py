"""The client over real sockets: episodes, refusals, and servers that go away, hang or lie."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from served import SPEC, Obedient, observation, served
from websockets.server import ServerProtocol
from websockets.sync.server import ServerConnection, serve

from vega_policy.rollouts.episode import Episode, Task, run_episode
from vega_policy.runtime.client import PolicyClient, PolicyUnavailableError, RefusedError, Retry
from vega_policy.runtime.specs import SpecMismatchError
from vega_policy.runtime.wire import pack, unpack

PATIENCE_S = 60.0


def address(port: int) -> str:
    return f"ws://127.0.0.1:{port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_episode_starts_with_its_seed_and_goes_on() -> None:
    with served() as port, PolicyClient(address(port), timeout_s=PATIENCE_S) as policy:
        for seed in (3, 5):
            policy.reset(seed)
            for count in (1, 2):
                chunk = policy.act(observation(x=0.25))
                np.testing.assert_array_equal(chunk[0, :3], [seed, count, 0.25])
        assert policy.timing_ms.keys() == {"decode_ms", "wait_ms", "inference_ms", "encode_ms"}


def test_the_harness_examines_a_remote_policy_like_any_other() -> None:
    class Two(gymnasium.Env[Any, Any]):
        """Two decisions, then success."""

        record_frames = False
        chunks: list[np.ndarray]

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
            self.chunks = []
            return observation(), {}

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            self.chunks.append(action)
            done = len(self.chunks) == 2
            return observation(), 0.0, done, False, {"is_success": done, "steps": 2 * len(self.chunks)}

    env = Two()
    with served() as port, PolicyClient(address(port), timeout_s=PATIENCE_S) as policy:
        row = run_episode(env, policy, Episode(Task("suite", 0, "task"), trial=0, seed=9))
    assert (row.outcome, row.decisions) == ("success", 2)
    assert [chunk[0, :2].tolist() for chunk in env.chunks] == [[9, 1], [9, 2]]


def test_a_policy_for_another_robot_is_refused_at_hello() -> None:
    waits_s: list[float] = []
    robot = replace(SPEC, control_hz=50.0)
    with served() as port:
        PolicyClient(address(port), robot=SPEC, timeout_s=PATIENCE_S).close()
        with pytest.raises(SpecMismatchError, match=r"20\.0 Hz, the robot 50\.0 Hz"):
            PolicyClient(address(port), robot=robot, timeout_s=PATIENCE_S, sleep=waits_s.append)
    assert not waits_s, "another attempt would not help"


def test_a_wrong_token_is_not_tried_again() -> None:
    waits_s: list[float] = []
    with served(token="the token of this server") as port, pytest.raises(RefusedError, match=r"401.*Api-Key"):
        PolicyClient(address(port), token="another token", timeout_s=PATIENCE_S, sleep=waits_s.append)
    assert not waits_s


def test_a_bad_observation_is_not_sent() -> None:
    with served() as port, PolicyClient(address(port), timeout_s=PATIENCE_S) as policy:
        policy.act(observation())
        with pytest.raises(ValueError, match="state/x to be finite"):
            policy.act(observation(x=float("nan")))
        assert policy.act(observation())[0, 1] == 2, "the connection is the same"


def test_a_failing_policy_is_not_asked_again() -> None:
    with served() as port, PolicyClient(address(port), timeout_s=PATIENCE_S) as policy:
        with pytest.raises(RefusedError, match="the policy is unwell"):
            policy.act(observation("raise"))
        assert policy.act(observation())[0, 1] == 1, "over a new connection"


def test_an_observation_too_big_for_the_server_is_refused() -> None:
    with served(max_message_bytes=1000) as port:
        policy = PolicyClient(address(port), timeout_s=PATIENCE_S)
        with pytest.raises(RefusedError, match="exceeds limit of 1000 bytes"):
            policy.act(observation(side_px=100))


def test_a_restarted_server_gets_the_episodes_seed_again() -> None:
    port = free_port()
    with ExitStack() as servers:
        first = ExitStack()
        first.enter_context(served(port=port))
        waits_s: list[float] = []

        def restart(wait_s: float) -> None:
            waits_s.append(wait_s)
            if len(waits_s) == 2:
                servers.enter_context(served(port=port))

        policy = servers.enter_context(PolicyClient(address(port), timeout_s=PATIENCE_S, sleep=restart))
        policy.reset(7)
        np.testing.assert_array_equal(policy.act(observation())[0, :2], [7, 1])
        first.close()
        np.testing.assert_array_equal(policy.act(observation())[0, :2], [7, 1])
    assert waits_s == [0.1, 0.2]


def test_nobody_there_is_an_error_after_all_attempts() -> None:
    waits_s: list[float] = []
    retry = Retry(attempts=6, first_wait_s=1.0, max_wait_s=5.0)
    with pytest.raises(PolicyUnavailableError, match="6 attempts failed"):
        PolicyClient(address(free_port()), retry=retry, sleep=waits_s.append)
    assert waits_s == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_server_that_thinks_for_ever_is_an_error() -> None:
    thinker = Obedient()
    thinker.may_answer.clear()
    waits_s: list[float] = []
    with served(thinker) as port:
        policy = PolicyClient(address(port), timeout_s=1.0, sleep=waits_s.append)
        policy._retry = Retry(attempts=1)
        with pytest.raises(PolicyUnavailableError, match="TimeoutError"):
            policy.act(observation())
        thinker.may_answer.set()


def test_a_server_that_stops_reading_is_an_error() -> None:
    with deaf_server() as port:
        policy = PolicyClient(address(port), timeout_s=1.0, retry=Retry(attempts=1))
        with pytest.raises(PolicyUnavailableError):
            policy.act(observation(side_px=2800))


@pytest.mark.parametrize(
    ("reply", "error", "reason"),
    [
        (
            {"sequence": 99, "actions": np.zeros((1, 7))},
            PolicyUnavailableError,
            "the reply to request 1, got 99",
        ),
        ({"sequence": 1, "actions": np.zeros((1, 6))}, ValueError, r"shape \(1, 6\)"),
        ({"sequence": 1, "actions": np.full((1, 7), np.inf)}, ValueError, "finite"),
        ({"sequence": 1}, ValueError, "actions to be float"),
    ],
)
def test_a_lying_server_is_found_out(reply: Mapping[str, Any], error: type[Exception], reason: str) -> None:
    with fake_server(lambda request: reply) as port:
        policy = PolicyClient(address(port), timeout_s=PATIENCE_S, retry=Retry(attempts=1))
        with pytest.raises(error, match=reason):
            policy.act(observation())


def test_only_what_the_policy_reads_is_sent() -> None:
    seen: list[dict[str, Any]] = []

    def note(request: dict[str, Any]) -> Mapping[str, Any]:
        seen.append(request)
        return {"sequence": request["sequence"], "actions": np.zeros((1, 7))}

    with fake_server(note) as port, PolicyClient(address(port), timeout_s=PATIENCE_S) as policy:
        policy.reset(4)
        policy.act(observation())
        policy.act(observation())
    assert [(request["sequence"], request["seed"]) for request in seen] == [(1, 4), (2, None)]
    assert seen[0]["observation"].keys() == SPEC.observation.keys()


def test_a_robots_computer_needs_three_packages() -> None:
    program = """
import sys
import numpy
import vega_policy.runtime.client
site = numpy.__file__.removesuffix("numpy/__init__.py")
files = [getattr(module, "__file__", None) or "" for module in sys.modules.values()]
print(*{file.removeprefix(site).partition("/")[0] for file in files if file.startswith(site)})
"""
    run = subprocess.run([sys.executable, "-S", "-c", program], env=bare(), capture_output=True, text=True)
    assert set(run.stdout.split()) == {"msgpack", "numpy", "websockets"}, run.stderr


def bare() -> dict[str, str]:
    """Without what an environment's start-up files import: only the paths."""
    return {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@contextmanager
def fake_server(answer: Callable[[dict[str, Any]], Mapping[str, Any]]) -> Iterator[int]:
    def talk(connection: ServerConnection) -> None:
        connection.send(pack(SPEC.to_message()))
        for message in connection:
            connection.send(pack(answer(unpack(message))))

    with serve(talk, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


@contextmanager
def deaf_server() -> Iterator[int]:
    """Says hello and never reads again."""
    ended = threading.Event()

    def talk(listener: socket.socket) -> None:
        link, _ = listener.accept()
        protocol = ServerProtocol()
        while not (events := protocol.events_received()):
            protocol.receive_data(link.recv(4096))
        protocol.send_response(protocol.accept(events[0]))  # type: ignore[arg-type]
        protocol.send_binary(pack(SPEC.to_message()))
        link.sendall(b"".join(protocol.data_to_send()))
        ended.wait()
        link.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=talk, args=(listener,))
        thread.start()
        yield listener.getsockname()[1]
        ended.set()
        thread.join()
