"""The moving parts of fixtures: drawers, doors, knobs; where they are and where a subgoal wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vega_policy.envs.experts.geometry import Pose, Vector, rotation_about, unit
from vega_policy.envs.experts.goal import Relation, Subgoal
from vega_policy.envs.experts.surface import Surface, sample
from vega_policy.envs.experts.world import World

RANGE_KEYS: dict[Relation, str] = {
    "open": "default_open_ranges",
    "close": "default_close_ranges",
    "turnon": "default_turnon_ranges",
    "turnoff": "default_turnoff_ranges",
}
INSIDE_RANGE = 0.15
LEAD_M, LEAD_RAD = 0.05, 0.35
PRESS_M, PRESS_RAD = 0.006, 0.05  # past a stop; harder, and the fingers come off
AT_STOP_M = 0.003  # of a drawer's widest position


@dataclass(frozen=True)
class MovingPart:
    """A body that slides along or turns about one axis, as it is now.

    Attributes:
        fixture: The fixture it belongs to.
        joint: The joint's name.
        slides: Whether it slides (q in m) rather than turns (q in rad).
        axis: Unit vector of the joint, world frame.
        anchor: A point on the axis.
        q: Joint position.
        goal_q: A position a little inside LIBERO's range for the subgoal: its nearest, or a drawer's widest.
        stops: The smallest and the largest q.
    """

    fixture: str
    joint: str
    slides: bool
    axis: Vector
    anchor: Vector
    q: float
    goal_q: float
    stops: tuple[float, float]

    @property
    def sign(self) -> float:
        """Return the direction (+1 or -1) in which q must change."""
        return 1.0 if self.goal_q >= self.q else -1.0

    def ahead_q(self, sign: float) -> float:
        """Return the q to which the hand is sent to move the part one way: ahead, hardly past a stop."""
        lead, press = (LEAD_M, PRESS_M) if self.slides else (LEAD_RAD, PRESS_RAD)
        low, high = self.stops
        return float(np.clip(self.q + sign * lead, low - press, high + press))

    def carried(self, pose: Pose, change_q: float, turning: float = 1.0) -> Pose:
        """Return where a pose fixed to the part goes when q changes; `turning` scales its own rotation."""
        if self.slides:
            return pose.moved(change_q * self.axis)
        arm = rotation_about(self.axis, change_q) @ (pose.position - self.anchor)
        turned = rotation_about(self.axis, turning * change_q) @ pose.rotation
        return Pose(self.anchor + arm, turned)

    def direction_at(self, point: Vector) -> Vector:
        """Return the unit direction in which a point of the part must move; zero on the axis."""
        if self.slides:
            return self.sign * self.axis
        motion = self.sign * np.cross(self.axis, point - self.anchor)
        return unit(motion) if np.linalg.norm(motion) > 1e-6 else np.zeros(3)


def moving_part(world: World, subgoal: Subgoal) -> MovingPart:
    """Return the part that a subgoal `open`, `close`, `turnon` or `turnoff` is about.

    Raises:
        ValueError: The subject has no joint.
    """
    joint = world.joint_of(subgoal.subject)
    if joint is None:
        raise ValueError(f"{subgoal.subject} has no joint; {subgoal.relation!r} cannot be reached")
    region = world.region(subgoal.subject)
    fixture = region.parent_name if region is not None else subgoal.subject
    view = world.data.joint(joint)
    q = world.joint_q(joint)
    slides = world.slides(joint)
    body: Any = world.fixture(fixture)
    ends = body.object_properties["articulation"][RANGE_KEYS[subgoal.relation]]
    low, high = world.model.joint(joint).range
    goal_q = _widest_q(ends) if slides and subgoal.relation == "open" else _nearest_q(ends, q)
    axis, anchor = view.xaxis.copy(), view.xanchor.copy()
    return MovingPart(fixture, joint, slides, axis, anchor, q, goal_q, (float(low), float(high)))


def _nearest_q(ends: Sequence[float], q: float) -> float:
    """Return the nearest point of LIBERO's range for a relation, moved inside a little."""
    near, far = sorted(ends, key=lambda end: abs(end - q))
    return float(near + INSIDE_RANGE * (far - near))


def _widest_q(ends: Sequence[float]) -> float:
    """Return the widest position that LIBERO calls open, likewise; fixtures are shut at 0."""
    near, far = sorted(ends, key=abs)
    return float(far + INSIDE_RANGE * (near - far))


def is_reached(world: World, subgoal: Subgoal) -> bool:
    """Whether a subgoal about a joint holds; open is a drawer at its stop, for a bowl needs all the room."""
    part = moving_part(world, subgoal)
    if subgoal.relation != "open" or not part.slides:
        return world.holds(subgoal)
    beyond_m = (part.q - part.goal_q) * np.sign(part.goal_q)
    return bool(beyond_m > -AT_STOP_M)


def part_geoms(world: World, joint: str) -> list[int]:
    """Return the collision geoms of the body that a joint moves, and of all below it."""
    root = int(world.model.joint(joint).bodyid[0])
    return [geom for geom in world.solid_geoms if _descends(world.model, world.model.geom_bodyid[geom], root)]


def _descends(model: Any, body: int, root: int) -> bool:
    while body > 0 and body != root:
        body = model.body_parentid[body]
    return bool(body == root)


def part_surface(world: World, joint: str) -> Surface:
    """Return the surface of a moving part, world frame."""
    return sample(world.model, world.data, part_geoms(world, joint), spacing_m=0.008)
