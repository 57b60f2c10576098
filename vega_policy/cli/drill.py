"""The fault table of docs/deployment.md: `python -m vega_policy.cli.drill --output=TABLE.md`.

Every fault happens for real: the simulated arm and the policy's server are processes of their own, killed
with SIGKILL, and between them and the control loop are sockets, on the policy's side with a proxy that can
be slow. The loop runs in this process, except where it is the one that is killed.
"""

import logging
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from vega_policy.cli.parsing import parse, refuse_unknown
from vega_policy.cli.sim_arm import SimArmConfig


@dataclass
class DrillArmConfig(SimArmConfig):
    """The simulated arm, slow and with small pictures: two processor cores run all of a drill's processes."""

    image_size_px: int = 64
    speed: float = 0.2


@dataclass
class DrillConfig:
    """Make everything go wrong once."""

    output: Path | None = None  # where the table goes; only printed if not given
    arm: str = "sim_arm"  # its limits: a name in configs/robot or a YAML file
    sim: DrillArmConfig = field(default_factory=DrillArmConfig)
    faults: list[str] | None = None  # which; all if not given
    address: str | None = None  # of an arm that is served already, instead of the simulated one


def main(argv: Sequence[str] | None = None) -> int:
    """Run the drills and print the table; returns 1 if a limit was exceeded or a recording cannot be read."""
    config = parse(DrillConfig, argv, prog="drill")
    logging.basicConfig(level=logging.CRITICAL)
    from vega_policy.cli.drill_faults import FAULTS, run_drill
    from vega_policy.cli.drill_servers import Servers
    from vega_policy.cli.drill_stage import MIDDLE_M, Scene, base_x_m
    from vega_policy.cli.robot_arms import load_arm, start_sim_arm
    from vega_policy.runtime.drill import HEADER

    try:
        refuse_unknown(config.faults or [], FAULTS, "fault")
        arm = load_arm(config.arm)
    except ValueError as error:
        print(f"drill: error: {error}", file=sys.stderr)
        return 2
    arm = replace(arm, image_size_px=config.sim.image_size_px)
    outcomes = []
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        address = config.address or start_sim_arm(config.sim, stack)
        scene = Scene(address, arm, config.sim.speed, Path(folder))
        servers = Servers(base_x_m(scene) + MIDDLE_M)
        for name in config.faults or FAULTS:
            outcomes.append(run_drill(name, scene, servers))
            print(outcomes[-1].row(), flush=True)
    table = "\n".join([HEADER, *(outcome.row() for outcome in outcomes)])
    if config.output is not None:
        config.output.write_text(table + "\n", encoding="utf-8")
    is_good = all(not outcome.broken_limits and outcome.num_rows > 0 for outcome in outcomes)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
