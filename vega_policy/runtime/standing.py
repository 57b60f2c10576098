"""The policy `hold` of a real arm: no motion, and the fingers stay as wide as they are.

Surprising: it is no brake. Zero displacements start from the pose measured when they arrive, so a compliant
arm may sag under them; an arm that has to stand is held by its adapter.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from vega_policy.runtime.observing import action_of
from vega_policy.runtime.robots.base import Command, EndEffectorDelta

ROWS = 8  # of a chunk


class Stay:
    """Asks for no motion.

    Args:
        scale: What the arm's actions mean.
    """

    def __init__(self, scale: EndEffectorDelta) -> None:
        self._scale = scale

    def reset(self, seed: int) -> None:
        """There is nothing to forget."""

    def act(self, observation: Mapping[str, Any]) -> Float[np.ndarray, "rows 7"]:
        """A chunk of zero displacements and of the width that the fingers have now."""
        fingers_m = np.asarray(observation["robot_state"]["gripper"]["qpos"])
        width_m = float(np.abs(fingers_m).sum())
        return np.tile(action_of(Command(np.zeros(3), np.zeros(3), width_m), self._scale), (ROWS, 1))
