"""`vega-serve`: a trained policy behind a websocket, for robots on this or other machines.

The token comes from a file, not from the command line, which every user of a machine can read.

Exit codes: 0 after SIGINT or SIGTERM, 1 if the address cannot be listened on, 2 for a mistake in the request.
"""

import asyncio
import hashlib
import json
import logging
import math
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vega_policy.cli.parsing import check_port, parse, refuse_unknown
from vega_policy.cli.policies import MakeLearned, PolicyConfig, policy_factory
from vega_policy.cli.provenance import checkpoint_sha256, local_checkpoint
from vega_policy.runtime.server import Listen, PolicyServer

OBSERVATIONS = ("libero", "openpi_libero")


@dataclass
class ServeConfig:
    """Answer observations with chunks of actions until stopped."""

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    host: str = "127.0.0.1"  # this machine only; 0.0.0.0 for all networks, with --token_file
    port: int = 8000  # 0 takes any free port
    token_file: Path | None = None  # holds what clients must show in their Authorization header
    observation: str = "libero"  # what robots send: libero, or openpi_libero as in its example
    control_hz: float = 20.0  # rate at which the policy's actions are meant to be played
    max_batch: int = 8  # robots in one pass, where the policy allows it
    max_wait_ms: float = 5.0  # a request waits this long for others
    max_message_mib: int = 16  # a larger message ends its connection

    def __post_init__(self) -> None:
        for name, least in {"max_batch": 1, "max_wait_ms": 0, "max_message_mib": 1}.items():
            if not least <= getattr(self, name) < math.inf:
                raise ValueError(f"expected --{name} >= {least}, got {getattr(self, name)}")
        check_port(self.port)
        refuse_unknown([self.observation], OBSERVATIONS, "--observation")
        if not 0 < self.control_hz < math.inf:
            raise ValueError(f"expected --control_hz > 0 and finite, got {self.control_hz}")
        if self.policy.path is None:
            raise ValueError(f"expected --policy.path=DIR, got --policy.type={self.policy.type}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    config = parse(ServeConfig, argv, prog="vega-serve")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        server = prepare(config)
    except (ValueError, OSError) as error:
        print(f"vega-serve: error: {error}", file=sys.stderr)
        return 2
    try:
        asyncio.run(_run(server, config.host))
    except OSError as error:
        print(f"vega-serve: stopped: {error}", file=sys.stderr)
        return 1
    return 0


def prepare(config: ServeConfig) -> PolicyServer:
    """Load the policy.

    Raises:
        ValueError: There is no token where one is needed, or nothing at the policy's path.
        OSError: The token or the policy cannot be read.
    """
    listen = listen_of(config)
    make_policy = policy_factory(config.policy)
    assert isinstance(make_policy, MakeLearned)

    from vega_policy.runtime.openpi_libero import OpenpiLibero, openpi_libero_spec
    from vega_policy.runtime.serving import batched, spec_of

    checkpoint = local_checkpoint(make_policy.path)
    acting = replace(make_policy, path=str(checkpoint)).load().with_whole_chunks()
    spec = spec_of(acting, config.control_hz, f"{make_policy.path}@{_digest(checkpoint)}")
    policy = batched(acting, config.max_batch)
    if config.observation == "openpi_libero":
        return PolicyServer(OpenpiLibero(policy), openpi_libero_spec(spec), listen)
    return PolicyServer(policy, spec, listen)


def listen_of(config: ServeConfig) -> Listen:
    """Where to listen, and the token from its file.

    Raises:
        ValueError: Other machines can reach the server and there is no token, or the token is too short.
        OSError: The token's file cannot be read.
    """
    token = read_token(config.token_file)
    max_bytes = config.max_message_mib * 2**20
    return Listen(config.host, config.port, token, max_bytes, config.max_wait_ms / 1000)


def read_token(file: Path | None) -> str | None:
    """The token in a file; None without a file."""
    return file.read_text(encoding="utf-8").strip() if file is not None else None


def _digest(checkpoint: Path) -> str:
    """A hash over the policy's files."""
    hashes = checkpoint_sha256(checkpoint)
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:16]


async def _run(server: PolicyServer, host: str) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with server.listening() as port:
        logging.info("serving on ws://%s:%d", host, port)
        await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
