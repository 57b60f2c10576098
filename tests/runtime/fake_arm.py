"""An arm that goes where it is sent, at once, and one moment of its life as the guard sees it."""

from pathlib import Path

import draccus
import numpy as np

from vega_policy.runtime.faults import Tick
from vega_policy.runtime.robots.base import ArmState, Command
from vega_policy.runtime.robots.config import ArmConfig

CONFIGS = Path(__file__).parents[2] / "configs" / "robot"
PANDA = draccus.parse(ArmConfig, CONFIGS / "panda.yaml", args=[])
READY_RAD = np.array([0.0, -0.2, 0.0, -2.4, 0.0, 2.2, 0.785])


def state(time_s: float = 0.0, position_m: object = (0.5, 0.0, 0.3), **changes: object) -> ArmState:
    fields = {
        "time_s": time_s,
        "position_m": np.asarray(position_m),
        "rotation": np.diag([1.0, -1.0, -1.0]),
        "joints_rad": READY_RAD,
        "gripper_width_m": 0.08,
    }
    return ArmState(**{**fields, **changes})  # type: ignore[arg-type]


def command(
    x: float = 0.0, y: float = 0.0, z: float = 0.0, *, roll: float = 0.0, width_m: float = 0.08
) -> Command:
    return Command(np.array([x, y, z]), np.array([roll, 0.0, 0.0]), width_m)


def tick(
    now_s: float, asked: Command | None = None, measured: ArmState | None = None, **changes: object
) -> Tick:
    """A tick with nothing wrong: fresh state, frames and chunk."""
    fields = {"measured": measured or state(now_s), "frame_time_s": now_s, "chunk_time_s": now_s}
    return Tick(now_s, asked, **{**fields, **changes})  # type: ignore[arg-type]
