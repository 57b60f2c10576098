"""Where an object must be for `in` and `on` to hold, and the spots at which to put it down.

The conditions are LIBERO's (`base_object_states.py`, `site_object.py`): only the object's origin counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vega_policy.envs.experts.geometry import Pose, Vector
from vega_policy.envs.experts.goal import Subgoal
from vega_policy.envs.experts.world import World

ON_OBJECT_RADIUS_M = 0.03
ON_SITE_BELOW_M, ON_SITE_ABOVE_M = 0.005, 0.10
IN_BELOW_M = 0.01
SPOT_SPACING_M, SPOT_MARGIN_M = 0.02, 0.015


@dataclass(frozen=True)
class Region:
    """A box for an object's origin.

    Attributes:
        frame: Centre and axes of the box.
        low: Lower corner in the frame.
        high: Upper corner in the frame.
        parent: Object or fixture that the region belongs to; None for regions of a table.
    """

    frame: Pose
    low: Vector
    high: Vector
    parent: str | None

    def accepts(self, origin: Vector, margin_m: float = 0.0) -> bool:
        """Whether an origin lies in the box, `margin_m` away from its vertical sides."""
        local = self.frame.inverse().apply(origin)
        slack = np.array([margin_m, margin_m, 0.0])
        return bool(np.all(local > self.low + slack) and np.all(local < self.high - slack))

    def spots(self) -> Float[np.ndarray, "n 3"]:
        """Return points at mid-height spread over the box, the centre first."""
        axes = [_spread(self.low[axis], self.high[axis]) for axis in (0, 1)]
        grid = np.stack([axis.ravel() for axis in np.meshgrid(*axes)], axis=1)
        nearest_first = np.argsort(
            np.linalg.norm(grid - (self.low + self.high)[:2] / 2, axis=1), kind="stable"
        )
        height = np.full((len(grid), 1), (self.low[2] + self.high[2]) / 2)
        return self.frame.apply(np.hstack([grid[nearest_first], height]))

    def line(self, direction: Vector, spacing_m: float) -> Float[np.ndarray, "n 3"]:
        """Return points through the box's middle, along a level direction of the world, `spacing_m` apart."""
        middle = (self.low + self.high) / 2
        along = self.frame.rotation.T @ direction
        reach_m = float(np.abs(along) @ (self.high - self.low) / 2) - SPOT_MARGIN_M
        offsets_m = np.arange(-reach_m, reach_m, spacing_m)
        return self.frame.apply(middle + offsets_m[:, None] * along)


def _spread(low: float, high: float) -> Float[np.ndarray, " n"]:
    """Return points around the middle, away from the ends."""
    count = int(max(0.0, (high - low) / 2 - SPOT_MARGIN_M) / SPOT_SPACING_M)
    return (low + high) / 2 + SPOT_SPACING_M * np.arange(-count, count + 1)


def region_of(world: World, subgoal: Subgoal) -> Region:
    """Return the region in which a placement subgoal wants its subject now.

    Raises:
        ValueError: The subgoal is no placement.
    """
    if subgoal.target is None:
        raise ValueError(f"expected a placement (in, on), got {subgoal}")
    site = world.region(subgoal.target)
    if site is None:
        return _on_object(world, subgoal.target)
    frame, half, parent = world.site(subgoal.target), np.asarray(site.size), world.parent_of(subgoal.target)
    if subgoal.relation == "in":
        half = np.abs(frame.rotation @ half)
        return Region(Pose(frame.position, np.eye(3)), -half - [0.0, 0.0, IN_BELOW_M], half, parent)
    low, high = -half, half.copy()
    low[2], high[2] = half[2] - ON_SITE_BELOW_M, half[2] + ON_SITE_ABOVE_M
    # LIBERO multiplies by the site's matrix where its transpose would map to the site's frame.
    return Region(Pose(frame.position, frame.rotation.T), low, high, parent)


def _on_object(world: World, support: str) -> Region:
    """A square inside LIBERO's circle around the support's origin."""
    half = ON_OBJECT_RADIUS_M / np.sqrt(2)
    low, high = np.array([-half, -half, 0.0]), np.array([half, half, 0.2])
    return Region(Pose(world.pose(support).position, np.eye(3)), low, high, support)
