"""The contract of a skill, and the motions that all skills share."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import numpy as np

from vega_policy.envs.experts.geometry import UP, Pose
from vega_policy.envs.experts.motion import Action, toward
from vega_policy.envs.experts.world import World

CLEARANCE_M = 0.025
CORRIDOR_RADIUS_M = 0.08
CONE_M = 0.035
FINGERTIP_M = 0.012  # the fingers end 1 cm below the grip site


class Skill(Protocol):
    """Reaches one subgoal from any state."""

    def done(self) -> bool:
        """Whether the subgoal holds and the robot has let go."""
        ...

    def act(self) -> Action:
        """Return the next action, from the current state."""
        ...


def travel(
    world: World,
    target: Pose,
    grip: float,
    *,
    reach_down_m: float = FINGERTIP_M,
    ignore: Collection[str] = (),
) -> Action:
    """Return the next action of a trip to `target` over everything in between: up, across, down.

    Args:
        world: Current state.
        target: Wanted hand pose.
        grip: `OPEN` or `CLOSE`.
        reach_down_m: How far hand or cargo extends below the grip site.
        ignore: Objects that are no obstacles, e.g. the cargo.
    """
    hand = world.hand
    remaining = target.position - hand.position
    distance = float(np.linalg.norm(remaining[:2]))
    top = world.height_along(hand.position, target.position, CORRIDOR_RADIUS_M, ignore)
    needed = max(top + CLEARANCE_M + reach_down_m, target.position[2])
    # Over the last centimetres the path is a steep cone, so that nearly arrived does not mean up again.
    height = target.position[2] + (needed - target.position[2]) * np.clip(
        (distance - 0.01) / CONE_M, 0.0, 1.0
    )
    missing = height - hand.position[2]
    # Sideways motion begins a little below the travel height and is full there.
    share = float(np.clip(1.5 - missing / 0.03, 0.0, 1.0))
    waypoint = hand.position + np.array([share * remaining[0], share * remaining[1], missing])
    return toward(hand, Pose(waypoint, target.rotation), grip)


def raised(pose: Pose, height_m: float) -> Pose:
    """Return a pose straight above."""
    return pose.moved(height_m * UP)
