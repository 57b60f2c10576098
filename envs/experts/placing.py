"""Plans one pick-and-place: which grasp, which spot, from which side; checked with the whole arm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vega_policy.envs.experts.geometry import UP, Matrix, Pose, Vector, rotation_about
from vega_policy.envs.experts.goal import Subgoal
from vega_policy.envs.experts.grasps import Grasp, leaning, upright_grasps
from vega_policy.envs.experts.regions import Region, region_of
from vega_policy.envs.experts.rehearsal import Reach, Rehearsal
from vega_policy.envs.experts.world import World

HOVER_M = 0.07
TRIED_FROM_ABOVE, TRIED_FROM_ASIDE = (1.0,), (0.5, 1.0)
"""Shares of the way in at which the arm is tried: a hand that fits inside may not fit through the opening."""
SLACK_M = 0.001  # fingers that go down without this room to the object get wedged on it
CLOSED_TOUCH_M = 0.01
SWEEP_M = 0.25
SILL_M = 0.012
OVER_WALLS_M = 0.04
FINE_COST = 0.05
LEANS_DEG, GRASPS = (0, -25, 25, -50, 50, -75, 75), 60
POINTS_IN = -0.3  # a hand that goes in sideways points that way at least so far
TIGHT_COST, ROOM_M, ENOUGH = 1.0, 0.01, 3
SPOTS, SPREAD = 12, 0.6
TURNS_RAD = tuple(np.radians([0, 15, -15, 30, -30, 45, -45, 60, -60, 75, -75, 90]))
TILTS_RAD = tuple(np.radians([20, 30]))
LEVEL_AXES: tuple[Vector, ...] = tuple(np.array([x, y, 0.0]) for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)))
TILT_SPACING_M, SUNK_M = 0.01, 0.025
SIDES: tuple[Vector, ...] = (UP, *(np.array([x, y, 0.0]) for x, y in ((0, -1), (-1, 0), (0, 1), (1, 0))))


@dataclass(frozen=True)
class Placement:
    """Where an object goes.

    Attributes:
        pose: Of the object when it is let go.
        exit: Unit vector along which hand and object come in (backwards) and the hand leaves.
        way_in_m: Length of that way, from where it is clear of what surrounds the place.
        cost: 0 if nothing is in the way.
    """

    pose: Pose
    exit: Vector
    way_in_m: float
    cost: float


@dataclass(frozen=True)
class PutPlan:
    """A grasp, in the object's frame and so wide, and where to put the object.

    Attributes:
        fault: The part of the cost that is not a matter of taste: for what is out of reach or in the way.
    """

    grasp: Pose
    width_m: float
    placement: Placement
    cost: float
    fault: float

    @property
    def rank(self) -> tuple[bool, float]:
        """What to compare plans by: without a fault first, then cheap ones."""
        return self.fault >= FINE_COST, self.cost


class PutPlanner:
    """Plans placements and grasps for one subgoal `in` or `on`."""

    def __init__(self, world: World, rehearsal: Rehearsal, subgoal: Subgoal, rng: np.random.Generator):
        self._world = world
        self._rehearsal = rehearsal
        self._subgoal = subgoal
        self._rng = rng

    def plan(self, rejected: list[Pose]) -> PutPlan | None:
        """Return the cheapest plan, with the hand upright unless no such plan is without a fault.

        Args:
            rejected: Grasps (hand in the object's frame) that failed before; the last resort.

        Returns:
            None where no two sides of the object, as it lies, fit between the fingers.
        """
        self._rehearsal.refresh()
        placements = self.placements()
        plans = self._plans(placements, rejected) or self._plans(placements, [])
        plans = plans or self._plans([self._fallback()], [])
        return min(plans, key=lambda plan: plan.rank, default=None)

    def _plans(self, placements: list[Placement], rejected: list[Pose]) -> list[PutPlan]:
        """Return plans, more leaning ones only while none is without a fault."""
        plans: list[PutPlan] = []
        for grasps in self._grasps(placements[0].exit):
            plans += self._plans_with(grasps, placements, rejected)
            if any(plan.fault < FINE_COST for plan in plans):
                break
        return plans

    def _plans_with(
        self, grasps: list[Grasp], placements: list[Placement], rejected: list[Pose]
    ) -> list[PutPlan]:
        """Try grasps, cheapest first, until none that is left can be part of a better plan."""
        plans: list[PutPlan] = []
        best = np.inf
        for grasp in grasps:
            if grasp.cost + placements[0].cost > best - FINE_COST:
                break
            local = self._world.pose(self._subgoal.subject).inverse() @ grasp.hand
            if any(np.linalg.norm(local.position - other.position) < 0.01 for other in rejected):
                continue
            plans.extend(self._completed(grasp, local, placements))
            best = min((plan.cost for plan in plans if plan.fault < FINE_COST), default=np.inf)
        return plans

    def plan_held(self) -> PutPlan:
        """Return a plan for an object that is in the hand already: the grasp is the one it is held by."""
        self._rehearsal.refresh()
        held = self._world.pose(self._subgoal.subject).inverse() @ self._world.hand
        width_m = self._world.opening_m
        grasp = Grasp(self._world.hand, width_m, 0.0)
        plans = (self._plan_of(grasp, held, 0.0, placement) for placement in self.placements())
        return min(plans, key=lambda plan: plan.rank)

    def _grasps(self, exit_: Vector) -> Iterator[list[Grasp]]:
        """Upright grasps, then more and more leaning ones; into a side opening only those."""
        subject = self._subgoal.subject
        surface, centre = self._world.surface(subject), self._world.centre_of_mass(subject)
        upright = upright_grasps(surface, centre, self._world.base, self._rng)
        for lean_deg in LEANS_DEG:
            grasps = leaning(upright, float(np.radians(lean_deg)))
            if exit_ is not UP:
                grasps = [grasp for grasp in grasps if grasp.hand.rotation[:, 2] @ exit_ < POINTS_IN]
            yield grasps[:GRASPS]

    def _completed(self, grasp: Grasp, local: Pose, placements: list[Placement]) -> Iterator[PutPlan]:
        """Check a grasp where the object is, then at each placement until one is fine."""
        pick = self._pick_cost(grasp)
        if pick > 1.0:
            yield PutPlan(local, grasp.width_m, placements[0], grasp.cost + 10.0 * pick, 10.0 * pick)
            return
        for placement in placements:
            plan = self._plan_of(grasp, local, pick, placement)
            yield plan
            if plan.cost < grasp.cost + placements[0].cost + FINE_COST:
                return

    def _plan_of(self, grasp: Grasp, local: Pose, pick: float, placement: Placement) -> PutPlan:
        """Rate a grasp, whose fault is known, with a placement."""
        fault, tightness = self._place_cost(local, placement)
        fault += pick
        cost = grasp.cost + placement.cost + fault + tightness
        return PutPlan(local, grasp.width_m, placement, cost, fault)

    def _pick_cost(self, grasp: Grasp) -> float:
        near, rehearsal = self._world.geoms_of(self._subgoal.subject), self._rehearsal
        at = rehearsal.reach(grasp.hand)
        cost = rehearsal.arm_cost(at, near=near, touch_m=-SLACK_M)
        if cost > 1.0:
            return cost
        # Closed, too: between the fingers there may be the wall of something else beside the object's.
        closed = rehearsal.arm_cost(at, near=near, opening_m=grasp.width_m, touch_m=CLOSED_TOUCH_M)
        if closed > 1.0:
            return closed
        before = rehearsal.reach(grasp.hand.moved(-HOVER_M * grasp.hand.rotation[:, 2]), at.q)
        return cost + rehearsal.arm_cost(before, near=near)

    def _place_cost(self, local: Pose, placement: Placement) -> tuple[float, float]:
        """Return what is wrong with a placement, and what there is too little room for."""
        hand = placement.pose @ local
        at = self._rehearsal.reach(hand)
        fault = self._carrying_cost(at, placement.pose)
        if fault > 1.0:
            return fault, 0.0
        tightness = self._rehearsal.tightness(at, (self._subgoal.subject, placement.pose))
        for share in TRIED_FROM_ABOVE if placement.exit is UP else TRIED_FROM_ASIDE:
            offset = share * placement.way_in_m * placement.exit
            before = self._rehearsal.reach(hand.moved(offset), at.q)
            fault += self._carrying_cost(before, placement.pose.moved(offset))
        return fault, tightness

    def _carrying_cost(self, reach: Reach, pose: Pose) -> float:
        return self._rehearsal.arm_cost(reach, carried=(self._subgoal.subject, pose), opening_m=0.01)

    def placements(self) -> list[Placement]:
        """Return up to three placements, best first; never empty."""
        region = region_of(self._world, self._subgoal)
        rotation = self._world.pose(self._subgoal.subject).rotation
        found: list[Placement] = []
        for side in SIDES:
            for turn in TURNS_RAD:
                found += self._on_spots(region, rotation_about(UP, turn) @ rotation, side, 0.1 * abs(turn))
                if sum(placement.cost < TIGHT_COST for placement in found) >= ENOUGH:
                    break
            found = found or (self._aslant(region, rotation) if side is UP else [])
            if found:
                return sorted(found, key=lambda placement: placement.cost)[:ENOUGH]
        return [self._fallback()]

    def _aslant(self, region: Region, rotation: Matrix) -> list[Placement]:
        """Try to let it down tilted: a bowl too wide to pass between two edges level may pass so."""
        found: list[Placement] = []
        for axis in LEVEL_AXES:
            for tilt in TILTS_RAD:
                pose = rotation_about(axis, tilt) @ rotation
                spots = region.line(np.cross(axis, UP), TILT_SPACING_M)
                placements = (self._at(region, Pose(spot, pose), UP, TIGHT_COST + tilt) for spot in spots)
                found += [placement for placement in placements if placement]
        return _sunk(found)

    def _on_spots(self, region: Region, rotation: Matrix, side: Vector, cost: float) -> list[Placement]:
        """Try the spots nearest to the best one: the middle, or from the side no deeper than it takes.

        What goes in from above has to see all of them, to tell the floor from an edge.
        """
        sinks = side is UP and self._subgoal.relation == "in"
        middle = self._aim(region)
        aim = middle if side is UP else middle + side * self._shallow(region, rotation, side)
        spots = np.vstack([aim, region.spots()])
        found: list[Placement] = []
        for spot in spots[np.argsort(np.linalg.norm(spots - aim, axis=1), kind="stable")][:SPOTS]:
            aside_m = float(np.linalg.norm(spot - aim))
            placement = self._at(region, Pose(spot, rotation), side, cost + 3.0 * aside_m)
            found += [placement] if placement else []
            if not sinks and sum(other.cost < cost + TIGHT_COST for other in found) == ENOUGH:
                break
        return _sunk(found) if sinks else found

    def _aim(self, region: Region) -> Vector:
        """Return the middle; beside it where several objects are to stand, thin side to thin side."""
        middle = region.spots()[0]
        goals = [goal for goal in self._world.goal if goal.relation == "on"]
        sharing = [goal.subject for goal in goals if goal.target == self._subgoal.target]
        if self._subgoal.subject not in sharing or len(sharing) == 1:
            return middle
        low, high = self._world.extent(self._subgoal.subject)
        axis = int(np.argmin((high - low)[:2]))
        share = sharing.index(self._subgoal.subject) / (len(sharing) - 1) - 0.5
        return middle + SPREAD * share * (region.high - region.low)[axis] * np.eye(3)[axis]

    def _shallow(self, region: Region, rotation: Matrix, side: Vector) -> float:
        """Return how far from the middle toward the opening the whole object is still (1 cm) inside."""
        pose = self._world.pose(self._subgoal.subject)
        local = pose.inverse().apply(self._world.surface(self._subgoal.subject).points)
        sticks_out = float((local @ rotation.T @ side).max())
        half = float(np.abs(region.frame.rotation.T @ side) @ (region.high - region.low) / 2)
        return max(0.0, half + 0.01 - sticks_out)

    def _at(self, region: Region, spot: Pose, side: Vector, cost: float) -> Placement | None:
        """Come in along `side` and down: return where the object comes to rest, None if it cannot."""
        rest = self._dropped(spot) if side is UP else self._shoved(region, spot, side)
        if rest is None or not region.accepts(rest.position):
            return None
        way_in_m = self._way_in(rest) if side is UP else SWEEP_M
        tight = 0.0 if self._is_roomy(rest, side) else TIGHT_COST
        return Placement(rest, side, way_in_m, cost + tight)

    def _dropped(self, spot: Pose) -> Pose:
        """Move the object down until it touches something, first in centimetres, then in millimetres."""
        pose, lowered = spot.moved(SWEEP_M * UP), 0.0
        for step_m in (0.01, 0.002):
            while lowered < 2 * SWEEP_M and self._is_free(pose.moved(-(lowered + step_m) * UP)):
                lowered += step_m
        return pose.moved(-lowered * UP)

    def _shoved(self, region: Region, spot: Pose, side: Vector) -> Pose | None:
        """Find the lowest free height in the region that can be reached along a level way from `side`.

        Where there is room the way leads higher by `SILL_M`: an object carried a little askew would catch on
        the edge of the floor that it is to stand on.
        """
        for height in np.arange(region.low[2], region.high[2], 0.005):
            rest = spot.moved((height - (region.low[2] + region.high[2]) / 2) * UP)
            if self._is_free(rest):
                higher = (rest.moved(SILL_M * UP), rest)
                return next((pose for pose in higher if self._is_way_free(pose, side)), None)
        return None

    def _is_way_free(self, rest: Pose, side: Vector) -> bool:
        way = (rest.moved(out * side + 0.005 * UP) for out in np.arange(0.0, SWEEP_M, 0.02))
        return all(self._is_free(pose) for pose in (rest, *way))

    def _way_in(self, rest: Pose) -> float:
        """Return how far above its place the object clears the walls around it."""
        subject = self._subgoal.subject
        low, high = self._world.extent(subject)
        bottom = rest.position[2] + low[2] - self._world.pose(subject).position[2]
        radius_m = float((high - low)[:2].max() / 2) + 0.01
        walls = self._world.height_along(rest.position, rest.position, radius_m, [subject])
        return float(np.clip(walls - bottom + OVER_WALLS_M, HOVER_M, SWEEP_M))

    def _is_roomy(self, rest: Pose, side: Vector) -> bool:
        """Whether the object may be a centimetre off on its way in."""
        across = [np.eye(3)[axis] for axis in range(3) if abs(side[axis]) < 0.5]
        offsets = [sign * ROOM_M * axis for axis in across for sign in (1.0, -1.0) if sign * axis[2] >= 0.0]
        stations = [rest.moved(0.005 * UP + out * side) for out in (0.0, 0.03, 0.06, 0.09)]
        return all(self._is_free(pose.moved(offset)) for pose in stations for offset in offsets)

    def _is_free(self, pose: Pose) -> bool:
        return self._rehearsal.object_depth(self._subgoal.subject, pose) < 0.0005

    def _fallback(self) -> Placement:
        """Nothing fits: aim at the region's middle from above and let contact decide."""
        region = region_of(self._world, self._subgoal)
        rotation = self._world.pose(self._subgoal.subject).rotation
        return Placement(Pose(self._aim(region), rotation), UP, SWEEP_M, 5.0)


def _sunk(placements: list[Placement]) -> list[Placement]:
    """Leave out what comes to rest higher up than others do: on the edge of a drawer, half in it."""
    lowest_m = min((placement.pose.position[2] for placement in placements), default=0.0)
    return [placement for placement in placements if placement.pose.position[2] < lowest_m + SUNK_M]
