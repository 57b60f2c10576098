"""Plans one pick-and-place: which grasp, which spot, from which side; checked with the whole arm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vega_policy.envs.experts.geometry import UP, Matrix, Pose, Vector, rotation_about
from vega_policy.envs.experts.goal import Subgoal
from vega_policy.envs.experts.grasps import Grasp, best_first, plan_grasps
from vega_policy.envs.experts.regions import Region, region_of
from vega_policy.envs.experts.rehearsal import Reach, Rehearsal
from vega_policy.envs.experts.world import World

HOVER_M = 0.07
SWEEP_M = 0.25
FINE_COST = 0.05
SPOTS, TURNS_RAD = 12, tuple(np.radians([0, 15, -15, 30, -30, 45, -45, 60, -60, 75, -75, 90]))
SIDES: tuple[Vector, ...] = (UP, *(np.array([x, y, 0.0]) for x, y in ((0, -1), (-1, 0), (0, 1), (1, 0))))


@dataclass(frozen=True)
class Placement:
    """Where an object goes.

    Attributes:
        pose: Of the object when it is let go.
        exit: Unit vector along which hand and object come in (backwards) and the hand leaves.
        cost: 0 if nothing is in the way.
    """

    pose: Pose
    exit: Vector
    cost: float


@dataclass(frozen=True)
class PutPlan:
    """A grasp, in the object's frame, and where to put the object."""

    grasp: Pose
    placement: Placement
    cost: float


class PutPlanner:
    """Plans placements and grasps for one subgoal `in` or `on`."""

    def __init__(self, world: World, rehearsal: Rehearsal, subgoal: Subgoal, rng: np.random.Generator):
        self._world = world
        self._rehearsal = rehearsal
        self._subgoal = subgoal
        self._rng = rng

    def plan(self, rejected: list[Pose]) -> PutPlan:
        """Return the first plan without a fault, or the least bad one.

        Args:
            rejected: Grasps (hand in the object's frame) that failed before.
        """
        self._rehearsal.refresh()
        placements = self.placements()
        plans: list[PutPlan] = []
        for grasp in self._grasps():
            local = self._world.pose(self._subgoal.subject).inverse() @ grasp.hand
            if any(np.linalg.norm(local.position - other.position) < 0.01 for other in rejected):
                continue
            plans.extend(self._completed(grasp, local, placements))
            if plans and plans[-1].cost < grasp.cost + FINE_COST:
                return plans[-1]
        return min(plans, key=lambda plan: plan.cost)

    def plan_held(self) -> PutPlan:
        """Return a plan for an object that is in the hand already: the grasp is the one it is held by."""
        self._rehearsal.refresh()
        held = self._world.pose(self._subgoal.subject).inverse() @ self._world.hand
        plans = [
            PutPlan(held, placement, placement.cost + self._place_cost(held, placement))
            for placement in self.placements()
        ]
        return min(plans, key=lambda plan: plan.cost)

    def _grasps(self) -> Iterator[Grasp]:
        """Upright grasps first, leaning ones only when none of those will do."""
        subject = self._subgoal.subject
        surface, centre = self._world.surface(subject), self._world.centre_of_mass(subject)
        for leans in ((0.0,), tuple(np.radians([-25, 25, -50, 50, -75, 75]))):
            grasps = plan_grasps(
                surface, centre, self._world.hand.rotation, self._world.base, leans, self._rng
            )
            yield from best_first(grasps, 40)

    def _completed(self, grasp: Grasp, local: Pose, placements: list[Placement]) -> Iterator[PutPlan]:
        """Check a grasp where the object is, then at each placement until one is fine."""
        pick = self._pick_cost(grasp)
        if pick > 1.0:
            yield PutPlan(local, placements[0], grasp.cost + 10.0 * pick)
            return
        for placement in placements:
            cost = grasp.cost + pick + placement.cost + self._place_cost(local, placement)
            yield PutPlan(local, placement, cost)
            if cost < grasp.cost + FINE_COST:
                return

    def _pick_cost(self, grasp: Grasp) -> float:
        near, rehearsal = self._world.geoms_of(self._subgoal.subject), self._rehearsal
        at = rehearsal.reach(grasp.hand)
        cost = rehearsal.arm_cost(at, near=near)
        if cost > 1.0:
            return cost
        before = rehearsal.reach(grasp.hand.moved(-HOVER_M * grasp.hand.rotation[:, 2]), at.q)
        return cost + rehearsal.arm_cost(before, near=near)

    def _place_cost(self, local: Pose, placement: Placement) -> float:
        hand = placement.pose @ local
        at = self._rehearsal.reach(hand)
        cost = self._carrying_cost(at, placement.pose)
        if cost > 1.0:
            return cost
        offset = HOVER_M * placement.exit
        return cost + self._carrying_cost(
            self._rehearsal.reach(hand.moved(offset), at.q), placement.pose.moved(offset)
        )

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
                if len(found) >= 3:
                    return sorted(found, key=lambda placement: placement.cost)[:3]
        return sorted(found, key=lambda placement: placement.cost)[:3] or [self._above(region, rotation)]

    def _on_spots(self, region: Region, rotation: Matrix, side: Vector, cost: float) -> list[Placement]:
        found = []
        for spot in region.spots()[:SPOTS]:
            aside_m = float(np.linalg.norm(spot - region.spots()[0]))
            placement = self._at(region, Pose(spot, rotation), side, cost + 3.0 * aside_m)
            found += [placement] if placement else []
            if len(found) == 3:
                break
        return found

    def _at(self, region: Region, spot: Pose, side: Vector, cost: float) -> Placement | None:
        """Come in along `side` and down: return where the object comes to rest, None if it cannot."""
        start = spot.moved(SWEEP_M * side)
        if side is UP:
            rest = self._swept(start, -UP, 2 * SWEEP_M)
        else:
            inside = self._swept(start, -side, SWEEP_M)
            if (inside.position - spot.position) @ side > 0.02:
                return None
            rest = self._swept(inside, -UP, SWEEP_M)
        return Placement(rest, side, cost) if region.accepts(rest.position) else None

    def _swept(self, pose: Pose, direction: Vector, length_m: float) -> Pose:
        """Move the object until it touches something, at most `length_m`."""
        travelled = 0.0
        for step_m in (0.01, 0.002):
            while travelled < length_m and self._is_free(pose.moved((travelled + step_m) * direction)):
                travelled += step_m
        return pose.moved(min(travelled, length_m) * direction)

    def _is_free(self, pose: Pose) -> bool:
        return self._rehearsal.object_depth(self._subgoal.subject, pose) < 0.0005

    def _above(self, region: Region, rotation: Matrix) -> Placement:
        """Nothing fits: aim at the region's middle and let contact decide."""
        return Placement(Pose(region.spots()[0], rotation), UP, 5.0)
