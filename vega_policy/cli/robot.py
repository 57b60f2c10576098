"""`vega-robot`: a policy, here or behind a server, drives an arm in real time under one safety guard.

Nothing moves before a person has typed `go` (or said --yes). Ctrl-C stops the arm first and everything else
afterwards. After a fault the arm holds; a person may clear it by typing `go`, an unattended run ends.

Exit codes: 0 if the task was solved or the time is up, 1 if a fault or a lost robot ended the run, 2 for a
mistake in the request, 130 after Ctrl-C, SIGTERM or a terminal that was closed.
"""

import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vega_policy.cli.parsing import parse, refuse_unknown
from vega_policy.cli.sim_arm import SimArmConfig
from vega_policy.runtime.chunks import Playback

if TYPE_CHECKING:
    from vega_policy.cli.robot_parts import Parts

ROBOT_TYPES = ("sim_arm", "panda", "lerobot")
# What stands between a person and a motion is a word, not an equation.
FLAGS = ("--dry_run", "--yes", "--view")


@dataclass
class RobotChoice:
    """Which arm."""

    type: str = "sim_arm"  # sim_arm, panda or lerobot
    arm: str | None = None  # its limits and cameras: a name in configs/robot or a YAML file; that of its type
    address: str | None = None  # of an arm that is served already, ws://127.0.0.1:PORT; else it is started
    driver: str | None = None  # panda: module:function that returns the driver and its cameras
    lerobot: Path | None = None  # lerobot: YAML of the LeRobot robot and of its kinematics

    def __post_init__(self) -> None:
        refuse_unknown([self.type], ROBOT_TYPES, "--robot.type")
        needed = {"panda": "driver", "lerobot": "lerobot"}.get(self.type)
        if needed and getattr(self, needed) is None and self.address is None:
            raise ValueError(
                f"expected --robot.{needed} for --robot.type={self.type}, see docs/deployment.md"
            )


@dataclass
class ActorConfig:
    """A policy in this process."""

    path: str | None = None  # vega-tiny, a checkpoint folder, a Hub id, or a YAML for an untrained policy
    type: str | None = None  # hold: asks for no motion, and for the width that the fingers have
    device: str | None = None  # e.g. cuda; the policy's own if not given

    def __post_init__(self) -> None:
        if self.type is not None:
            refuse_unknown([self.type], ["hold"], "--policy.type")


@dataclass
class RobotPlayback(Playback):
    """How chunks follow each other; the next one is asked for early enough to overlap."""

    replan_rows: int = 4


@dataclass
class RobotRunConfig:
    """Drive an arm with a policy."""

    robot: RobotChoice = field(default_factory=RobotChoice)
    sim: SimArmConfig = field(default_factory=SimArmConfig)
    policy: ActorConfig = field(default_factory=ActorConfig)
    server: str | None = None  # a policy behind vega-serve instead, ws://HOST:PORT
    token_file: Path | None = None  # holds the server's token
    timeout_s: float = 2.0  # for an answer of the server
    playback: RobotPlayback = field(default_factory=RobotPlayback)
    task: str | None = None  # what to do, in words; the simulated arm knows its own
    duration_s: float = 30.0  # after which the run ends
    seed: int = 0  # of the policy's episode
    dry_run: bool = False  # print every command instead of sending it
    yes: bool = False  # do not ask before the first motion; end at a fault instead of waiting for a person
    record: Path | None = None  # a LeRobotDataset to which this run is added as an episode
    view: bool = False  # show the run live in rerun

    def __post_init__(self) -> None:
        given = [self.policy.path, self.policy.type, self.server]
        if sum(item is not None for item in given) != 1:
            raise ValueError(
                "expected one of --policy.path=DIR, --policy.type=hold and --server=ws://HOST:PORT, got "
                f"{self.policy.path}, {self.policy.type} and {self.server}"
            )
        for name in ("duration_s", "timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"expected --{name} > 0, got {getattr(self, name)}")
        if self.sim.speed != 1.0 and self.robot.type != "sim_arm":
            raise ValueError(f"expected --sim.speed=1 with a real arm, got {self.sim.speed}")
        if self.dry_run and self.record is not None:
            raise ValueError(
                "expected either --dry_run or --record, got both: a recording's actions are what an arm was "
                "sent, and a dry run sends nothing"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    arguments = [f"{word}=true" if word in FLAGS else word for word in words]
    config = parse(RobotRunConfig, arguments, prog="vega-robot")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("libav").setLevel(logging.ERROR)  # x264 would print its statistics
    for number in (signal.SIGTERM, signal.SIGHUP):  # the latter as a terminal or an SSH connection ends
        signal.signal(number, signal.default_int_handler)
    from vega_policy.cli.robot_parts import assemble

    with ExitStack() as stack:
        try:
            parts = assemble(config, stack)
            if not config.yes and not config.dry_run:
                confirm(parts.summary)
        except KeyboardInterrupt:
            return 130
        except (ValueError, OSError, RuntimeError, ImportError, EOFError) as error:
            print(f"vega-robot: error: {error}", file=sys.stderr)
            return 2
        return run(parts)


def confirm(summary: str) -> None:
    """Have a person say that the arm may move.

    Raises:
        ValueError: They do not, or nobody is there.
    """
    from vega_policy.cli.robot_parts import ask_person

    if not sys.stdin.isatty():
        raise ValueError("expected a person at a terminal to confirm the first motion; --yes does without")
    print(summary)
    if ask_person("The arm is about to move. A hand on the stop button? Type go: ") != "go":
        raise ValueError("not confirmed, nothing was moved")


def run(parts: "Parts") -> int:
    """Drive the arm until the run is over, then say how it went; returns the exit code."""
    from vega_policy.runtime.supervisor import Ending

    try:
        parts.loop.run(lambda: parts.supervisor.is_done(parts.loop))
        code = 1 if parts.supervisor.ending is Ending.FAULT else 0
    except KeyboardInterrupt:
        code = 130
    except OSError as error:
        print(f"vega-robot: the robot is lost: {error}", file=sys.stderr)
        code = 1
    for line in (parts.report(), parts.keep_recording()):
        with suppress(OSError):  # the terminal may be gone, and the recording has to be kept all the same
            print(line, end="", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
