"""The contract of a skill, and the motions that all skills share."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import numpy as np

from vega_policy.envs.experts.geometry import Pose, Vector
from vega_policy.envs.experts.motion import Action, toward
from vega_policy.envs.experts.world import World

CLEARANCE_M = 0.045  # an imitator is up to 3 cm lower
STARTING_STEPS = 4  # after a command, before fingers or hand can be said to have come to rest
CORRIDOR_RADIUS_M = 0.08
CONE_M = 0.035
CEILING_M = 0.42  # over the robot's base; higher up the arm is stretched
ASTRAY_M = 0.08  # a rise that far from its start is another one
FINGERTIP_M = 0.012  # the fingers end 1 cm below the grip site


class Skill(Protocol):
    """Reaches one subgoal from any state."""

    def done(self) -> bool:
        """Whether the subgoal holds and the robot has let go."""
        ...

    def act(self) -> Action:
        """Return the next action, from the current state."""
        ...


class Traveller:
    """Moves the hand over everything in between: up, across, down."""

    def __init__(self, world: World):
        self._world = world
        self._rising_from: Vector | None = None

    def toward(
        self,
        target: Pose,
        grip: float,
        *,
        reach_down_m: float = FINGERTIP_M,
        ignore: Collection[str] = (),
    ) -> Action:
        """Return the next action of a trip to `target`.

        Args:
            target: Wanted hand pose.
            grip: `OPEN` or `CLOSE`.
            reach_down_m: How far hand or cargo extends below the grip site.
            ignore: Objects that are no obstacles, e.g. the cargo.
        """
        hand = self._world.hand
        remaining = target.position - hand.position
        distance = float(np.linalg.norm(remaining[:2]))
        top = self._world.height_along(hand.position, target.position, CORRIDOR_RADIUS_M, ignore)
        ceiling = float(self._world.base[2]) + CEILING_M
        needed = max(min(top + CLEARANCE_M + reach_down_m, ceiling), target.position[2])
        # Over the last centimetres the path is a steep cone, so that nearly arrived does not mean up again.
        cone = np.clip((distance - 0.01) / CONE_M, 0.0, 1.0)
        missing = target.position[2] + (needed - target.position[2]) * cone - hand.position[2]
        # Sideways motion begins a little below the travel height and is full there.
        share = float(np.clip(1.5 - missing / 0.03, 0.0, 1.0))
        start = self._start(hand.position, share)
        waypoint = start + share * (target.position - start)
        waypoint[2] = hand.position[2] + missing
        return toward(self._world.hand_at_rest, Pose(waypoint, target.rotation), grip)

    def _start(self, position: Vector, share: float) -> Vector:
        """Remember where a rise began: the controller lets a turning hand drift where no input holds it."""
        start = self._rising_from
        if share == 1.0 or start is None or np.linalg.norm((position - start)[:2]) > ASTRAY_M:
            self._rising_from = start = position
        return start
