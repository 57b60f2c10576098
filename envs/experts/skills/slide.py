"""Push a thing too wide and too flat to be picked up (a plate) across the table, fingertips in its dish."""

from __future__ import annotations

import numpy as np

from vega_policy.envs.experts.geometry import DOWN, UP, Pose
from vega_policy.envs.experts.goal import Subgoal
from vega_policy.envs.experts.grasps import MAX_WIDTH_M
from vega_policy.envs.experts.motion import CLOSE, OPEN, Action, toward
from vega_policy.envs.experts.regions import region_of
from vega_policy.envs.experts.skills.base import Traveller
from vega_policy.envs.experts.world import World

FLAT_M = 0.025
FINGERTIP_M = 0.009
PRESS_M = 0.025
HOVER_M = 0.05
SPEED = 0.5
INSIDE_M = 0.01  # keep on until the origin is this far inside the region


def must_slide(world: World, subgoal: Subgoal) -> bool:
    """Whether the subject cannot be grasped, and its target lies on a table."""
    if region_of(world, subgoal).parent is not None:
        return False
    low, high = world.extent(subgoal.subject)
    width_m, depth_m, height_m = high - low
    return bool(height_m < FLAT_M and min(width_m, depth_m) > MAX_WIDTH_M)


class Slide:
    """Reaches one subgoal `on` for a flat object and a region of the table it stands on."""

    def __init__(self, world: World, subgoal: Subgoal):
        self._world = world
        self._subgoal = subgoal
        self._traveller = Traveller(world)

    def done(self) -> bool:
        """Whether the object is well inside the region and the hand has left it."""
        return self._arrived() and self._height() > HOVER_M / 2

    def act(self) -> Action:
        """Return the next action."""
        hand, pose = self._world.hand, self._world.pose(self._subgoal.subject)
        if self._arrived():
            return toward(hand, Pose(hand.position + HOVER_M * UP, DOWN), OPEN)
        error = self._error()
        touch = Pose(pose.position + self._lead(error), DOWN).moved((FINGERTIP_M - PRESS_M) * UP)
        off = float(np.linalg.norm((hand.position - touch.position)[:2]))
        if off > 0.5 * self._radius() or (off > 0.015 and self._height() > HOVER_M / 2):
            return self._traveller.toward(touch.moved((HOVER_M + PRESS_M) * UP), CLOSE)
        if self._height() > 0.01:
            return toward(hand, touch, CLOSE)
        ahead = hand.position + error
        ahead[2] = touch.position[2]
        return toward(hand, Pose(ahead, DOWN), CLOSE, gain=2.0, speed=SPEED)

    def _arrived(self) -> bool:
        origin = self._world.pose(self._subgoal.subject).position
        inside = region_of(self._world, self._subgoal).accepts(origin, INSIDE_M)
        return inside and self._world.holds(self._subgoal)

    def _error(self) -> np.ndarray:
        target = region_of(self._world, self._subgoal).frame.position
        return (target - self._world.pose(self._subgoal.subject).position) * [1.0, 1.0, 0.0]

    def _lead(self, error: np.ndarray) -> np.ndarray:
        """Touch down ahead of the middle, so that the object trails behind the fingers."""
        return 0.2 * self._radius() * error / max(float(np.linalg.norm(error)), 1e-6)

    def _radius(self) -> float:
        low, high = self._world.extent(self._subgoal.subject)
        return float((high - low)[:2].min() / 2)

    def _height(self) -> float:
        """Return the height of the fingertips over the object's origin."""
        return float(
            self._world.hand.position[2] - FINGERTIP_M - self._world.pose(self._subgoal.subject).position[2]
        )
