"""When a learner that is watched needs help: its hand has shut on nothing, or stays where it is.

Surprising: only a hand that has to carry or pull something next can have shut on nothing; doors and plates
are pushed with shut fingers.
"""

from __future__ import annotations

import numpy as np

from vega_policy.envs.experts.geometry import Vector
from vega_policy.envs.experts.world import World

EMPTY_M = 0.01  # between the pads; a bowl's wall is held at 5 mm, but held
STAYS_M, STAYS_S = 0.02, 2.0


class Onlooker:
    """Watches who acts in `world`, from one decision to the next."""

    def __init__(self, world: World):
        self._world = world
        self._here: Vector | None = None
        self._here_since_s = 0.0

    def sees_trouble(self, *, must_hold: bool) -> bool:
        """Whether help is needed; to be asked at every decision.

        Args:
            must_hold: Whether the next thing to do is to carry something or to pull a handle.
        """
        return self._stays() or (must_hold and self._holds_nothing())

    def _holds_nothing(self) -> bool:
        world = self._world
        return world.opening_m < EMPTY_M and world.fingers_rest and world.held_object() is None

    def _stays(self) -> bool:
        hand, now_s = self._world.hand.position, float(self._world.data.time)
        if self._here is None or np.linalg.norm(hand - self._here) > STAYS_M:
            self._here, self._here_since_s = hand, now_s
        return now_s - self._here_since_s > STAYS_S
