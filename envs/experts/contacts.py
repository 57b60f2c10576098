"""Plans how to take hold of a moving part, or where to push it; checked with the whole arm along its path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from vega_policy.envs.experts.geometry import (
    UP,
    Matrix,
    Pose,
    Vector,
    angle_between,
    hand_rotation,
    rotation_about,
    unit,
)
from vega_policy.envs.experts.goal import Subgoal
from vega_policy.envs.experts.grasps import OPENING_M, PAD_ABOVE_SITE_M, find_pinches
from vega_policy.envs.experts.joints import MovingPart, part_geoms, part_surface
from vega_policy.envs.experts.rehearsal import Reach, Rehearsal
from vega_policy.envs.experts.surface import Surface
from vega_policy.envs.experts.world import World

BACK_OFF_M = 0.07
FINE_COST = 0.05
TOUCH_M = 0.003
FINGERTIP_LENGTH_M, FINGER_HALF_M = 0.009, 0.0087
PUSH_LEANS_RAD = tuple(np.radians([0, 30, -30, 45, -45, 60, 80]))
CANDIDATES = 90
POINTS, GRIP_SPACING_M, PUSH_SPACING_M = 30, 0.008, 0.025
OFF_MIDDLE_COST_PER_M = 3.0
TOLERABLE_COST = 2.5  # of the better kind of hold: brushes with free objects, not walls in the way


@dataclass(frozen=True)
class Hold:
    """Where the hand takes hold of a part, or pushes it.

    Attributes:
        hand: Hand pose at the part's position `q`, world frame.
        q: Joint position the hand pose belongs to.
        before: Hand pose from which it comes straight in, likewise.
        grips: Whether the fingers close on the part; otherwise they are closed and push.
        turning: Share of a hinge's rotation that the hand follows.
        cost: 0 if nothing is in the way.
    """

    hand: Pose
    q: float
    before: Pose
    grips: bool
    turning: float
    width_m: float
    cost: float


class HoldPlanner:
    """Plans holds for one subgoal about a joint."""

    def __init__(self, world: World, rehearsal: Rehearsal, subgoal: Subgoal, rng: np.random.Generator):
        self._world = world
        self._rehearsal = rehearsal
        self._subgoal = subgoal
        self._rng = rng

    def plan(self, part: MovingPart, rejected: list[Hold]) -> Hold:
        """Return the first hold without a fault, or the least bad one; skip those near rejected ones."""
        surface = part_surface(self._world, part.joint)
        self._middle, self._touchable = surface.points.mean(axis=0), part_geoms(self._world, part.joint)
        self._riders = self._world.objects_on(self._touchable) if part.slides else []
        kinds = (
            (self._pushes, self._grips) if self._subgoal.relation == "close" else (self._grips, self._pushes)
        )
        checked: list[Hold] = []
        for holds in kinds:
            fresh = [
                hold for hold in holds(part, surface) if not any(_alike(hold, other) for other in rejected)
            ]
            for hold in _mixed(fresh)[:CANDIDATES]:
                checked.append(self._checked(hold, part))
                if checked[-1].cost < hold.cost + FINE_COST:
                    return checked[-1]
            best = min(checked, key=lambda hold: hold.cost, default=None)
            if best is not None and best.cost < TOLERABLE_COST:
                return best
        return min(checked, key=lambda hold: hold.cost)

    def _grips(self, part: MovingPart, surface: Surface) -> Iterator[Hold]:
        pinches = find_pinches(surface, self._rng, steepest=1.0)
        for index in self._outermost(part, pinches.middles, GRIP_SPACING_M):
            axis, width = pinches.axes[index], float(pinches.widths_m[index])
            for rotation in _around(axis):
                hand = Pose(pinches.middles[index] + PAD_ABOVE_SITE_M * rotation[:, 2], rotation)
                yield from self._variants(part, hand, True, width)

    def _pushes(self, part: MovingPart, surface: Surface) -> Iterator[Hold]:
        motions = np.array([part.direction_at(point) for point in surface.points])
        facing = np.einsum("ij,ij->i", surface.normals, motions) < -0.85
        points, motions = surface.points[facing], motions[facing]
        for index in self._outermost(part, points, PUSH_SPACING_M):
            for lean in PUSH_LEANS_RAD:
                yield from self._variants(part, _pushing(points[index], motions[index], lean), False, 0.0)

    def _outermost(self, part: MovingPart, points: np.ndarray, spacing_m: float) -> list[int]:
        """Return which points to try: those that stick out most, some way apart."""
        chosen: list[int] = []
        for index in np.argsort([-self._protrusion(part, point) for point in points]):
            if all(np.linalg.norm(points[index] - points[other]) > spacing_m for other in chosen):
                chosen.append(int(index))
            if len(chosen) == POINTS:
                break
        return chosen

    def _protrusion(self, part: MovingPart, point: Vector) -> float:
        """Return how far (m) a point sticks out the way its part opens, plus its lever; no knob does."""
        signs = {"open": 1.0, "close": -1.0}
        outward = signs.get(self._subgoal.relation, 0.0) * part.direction_at(self._middle)
        return float(outward @ (point - self._middle)) + (0.0 if part.slides else 0.3 * _radius(part, point))

    def _off_middle(self, part: MovingPart, point: Vector) -> float:
        """Return how far (m) a point is beside a sliding part's middle: at its ends fingers slip off."""
        return float(abs(unit(np.cross(UP, part.axis)) @ (point - self._middle)))

    def _variants(self, part: MovingPart, hand: Pose, grips: bool, width_m: float) -> Iterator[Hold]:
        turn = angle_between(self._world.hand.rotation, hand.rotation)
        out = float(np.linalg.norm((hand.position - self._world.base)[:2]))
        cost = 0.15 * turn + out - 3.0 * self._protrusion(part, hand.position)
        if part.slides:
            cost += OFF_MIDDLE_COST_PER_M * self._off_middle(part, hand.position)
        before = hand.moved(-BACK_OFF_M * hand.rotation[:, 2])
        rigid = part.slides or _radius(part, hand.position) < 0.05
        for turning in (1.0,) if rigid else (1.0, 0.5, 0.0):
            yield Hold(hand, part.q, before, grips, turning, width_m, cost)

    def _checked(self, hold: Hold, part: MovingPart) -> Hold:
        """Add the costs of coming in and of three stations of the part's path."""
        self._rehearsal.refresh()
        opening = OPENING_M if hold.grips else 0.0
        reach = self._rehearsal.reach(hold.hand)
        cost = hold.cost + self._cost(reach, opening)
        if cost > hold.cost + 2.0:
            return replace(hold, cost=cost)
        before, way_in = self._best_before(hold, part, reach.q, opening)
        cost += way_in
        for share in (0.33, 0.67, 1.0):
            if cost > hold.cost + 2.0:
                break
            change = share * (part.goal_q - part.q)
            self._move(part, change)
            reach = self._rehearsal.reach(part.carried(hold.hand, change, hold.turning), reach.q)
            cost += self._cost(reach, hold.width_m)
        return replace(hold, before=before, cost=cost)

    def _move(self, part: MovingPart, change_q: float) -> None:
        """Pretend the part is further on, and with it what is in a drawer."""
        self._rehearsal.set_joint(part.joint, part.q + change_q)
        for name in self._riders:
            self._rehearsal.set_object(name, part.carried(self._world.pose(name), change_q))

    def _best_before(
        self, hold: Hold, part: MovingPart, q: np.ndarray, opening_m: float
    ) -> tuple[Pose, float]:
        """Come in along the hand, or (pushing) along the motion, whichever is clearer."""
        options = [hold.before]
        if not hold.grips:
            options.append(hold.hand.moved(-BACK_OFF_M * part.direction_at(hold.hand.position)))
        costs = [self._cost(self._rehearsal.reach(option, q), opening_m) for option in options]
        best = int(np.argmin(costs))
        return options[best], costs[best]

    def _cost(self, reach: Reach, opening_m: float) -> float:
        return self._rehearsal.arm_cost(reach, near=self._touchable, opening_m=opening_m, touch_m=TOUCH_M)


def _mixed(holds: Iterable[Hold]) -> list[Hold]:
    """Sort by cost, but so that every hand rotation gets its turn before any gets its second."""
    turns: Counter[tuple[float, ...]] = Counter()
    ranked = []
    for hold in sorted(holds, key=lambda hold: hold.cost):
        key = (*np.round(hold.hand.rotation.ravel(), 1), hold.turning)
        ranked.append((turns[key], hold))
        turns[key] += 1
    return [hold for _, hold in sorted(ranked, key=lambda item: (item[0], item[1].cost))]


def _alike(first: Hold, second: Hold) -> bool:
    near = np.linalg.norm(first.hand.position - second.hand.position) < 0.01
    return bool(near) and angle_between(first.hand.rotation, second.hand.rotation) < 0.3


def _radius(part: MovingPart, point: Vector) -> float:
    return float(np.linalg.norm(np.cross(part.axis, point - part.anchor)))


def _around(axis: Vector) -> Iterator[Matrix]:
    """Yield hand rotations that close along an axis and come in from anywhere but below."""
    first = -UP if abs(axis[2]) < 0.8 else np.array([0.0, 1.0, 0.0])
    first = unit(first - (first @ axis) * axis)
    for angle in np.radians(np.arange(0, 360, 30)):
        approach = rotation_about(axis, float(angle)) @ first
        if approach[2] < 0.3:
            yield hand_rotation(axis, approach)


def _pushing(point: Vector, motion: Vector, lean_rad: float) -> Pose:
    """Lay the closed fingers against a point, leaning by an angle from straight down into the motion."""
    flat = unit(motion * [1.0, 1.0, 0.0])
    approach = np.cos(lean_rad) * -UP + np.sin(lean_rad) * flat
    rotation = hand_rotation(np.cross(UP, flat), approach)
    local = rotation.T @ flat
    touching = np.array([0.0, np.sign(local[1]) * FINGER_HALF_M * (abs(local[1]) > 0.5), 0.0])
    touching[2] = FINGERTIP_LENGTH_M if local[2] > 0.5 else 0.0
    return Pose(point - rotation @ touching, rotation)
