"""Pick an object up and put it where a subgoal `in` or `on` wants it.

Which part of that comes next is read from the state: not held means fetch, held means deliver, delivered
means let go and leave. The memory is short: the plan, how long the fingers have been closing or opening, the
exit.
"""

from __future__ import annotations

import numpy as np

from vega_policy.envs.experts.geometry import UP, Pose, Vector, angle_between, unit
from vega_policy.envs.experts.goal import Subgoal
from vega_policy.envs.experts.motion import CLOSE, OPEN, Action, StallMonitor, toward
from vega_policy.envs.experts.placing import HOVER_M, Placement, PutPlan, PutPlanner
from vega_policy.envs.experts.rehearsal import Rehearsal
from vega_policy.envs.experts.skills.base import STARTING_STEPS, Traveller
from vega_policy.envs.experts.skills.funnel import RETURN_M, aside_of_grasp_m, height_m, room_m
from vega_policy.envs.experts.world import World

CLOSING_STEPS, OPENING_STEPS, LEAVING_STEPS = 9, 5, 25
FLICKER_STEPS = 4
HOMING_STEPS, NEAR_HOME_M = 30, 0.03
HOMING_RAD = 0.3  # ahead on the joints' way home: far enough for full speed
REPLAN_SHIFT_M, REPLAN_TURN_RAD = 0.03, 0.5
EXIT_M = 0.10
ABOVE_M, BELOW_M = 0.010, 0.015  # from there on the fingers close: they are round the thing
PLACING_ROOM_M, LOWERED_M = 0.008, 0.005
SINKING_M = 0.003  # in two steps: less, and it stands on something
ASTRAY_M, SECOND_TRIES = 0.10, 1  # what stops that far from its place is not half in it: it has met something
FALLING_M_S = 0.15
UNSTICK_M = 0.02
LEAST_SHARE = 0.2  # of the way out, also where there is no room to rise
WEDGED_OPENING_M = 0.077  # open that far, the fingers do not hold the object but are held by it


class Put:
    """Reaches one placement subgoal."""

    def __init__(self, world: World, rehearsal: Rehearsal, subgoal: Subgoal, rng: np.random.Generator):
        self._world = world
        self._subgoal = subgoal
        self._traveller = Traveller(world)
        self._object = subgoal.subject
        self._rehearsal = rehearsal
        self._planner = PutPlanner(world, rehearsal, subgoal, rng)
        self._plan: PutPlan | None = None
        self._planned_at: Pose = world.pose(self._object)
        self._rejected: list[Pose] = []
        self._closing = 0
        self._missed = FLICKER_STEPS
        self._pinching_at: Pose = world.hand
        self._opening = 0
        self._leaving: Pose | None = None
        self._leaving_steps = 0
        self._lowering: list[float] = []
        self._is_ungraspable = False
        self._homing = 0
        self._second_tries = 0
        self._stall = StallMonitor()

    def done(self) -> bool:
        """Whether the object is in place, let go of and left."""
        held = self._world.is_pinched(self._object) or self._missed < FLICKER_STEPS
        busy = self._opening or self._leaving or held
        return self._world.holds(self._subgoal) and not busy

    def act(self) -> Action:
        """Return the next action."""
        if self._opening:
            return self._let_go()
        if self._leaving is not None:
            return self._leave(self._leaving)
        if self._is_held():
            return self._deliver()
        return self._fetch()

    def _is_held(self) -> bool:
        """Whether the fingers have the object; a contact may flicker for a few steps while it is lifted."""
        pinched = self._world.is_pinched(self._object) and self._world.opening_m < WEDGED_OPENING_M
        self._missed = 0 if pinched else self._missed + 1
        return self._missed < FLICKER_STEPS and not (self._closing and self._are_closing())

    def _are_closing(self) -> bool:
        """Whether the fingers are still on their way; no longer, as waiting is what nobody can see."""
        if self._closing < STARTING_STEPS:
            return True
        return self._closing < CLOSING_STEPS and not self._world.fingers_rest

    def _current_plan(self) -> PutPlan | None:
        """Plan anew when there is no plan or the object has moved; None if it cannot be grasped there."""
        pose = self._world.pose(self._object)
        moved = np.linalg.norm(pose.position - self._planned_at.position) > REPLAN_SHIFT_M
        turned = angle_between(pose.rotation, self._planned_at.rotation) > REPLAN_TURN_RAD
        if moved or turned or (self._plan is None and not self._is_ungraspable):
            self._plan, self._planned_at = self._planner.plan(self._rejected), pose
            self._is_ungraspable = self._plan is None
        return self._plan

    def _fetch(self) -> Action:
        if self._closing:
            return self._pinch()
        self._lowering.clear()
        self._homing = self._second_tries = 0
        if self._world.speed(self._object) > FALLING_M_S:
            return toward(self._world.hand, self._world.hand.moved(0.05 * UP), OPEN)
        plan = self._current_plan()
        if plan is None:  # wait, for somebody may move it; the task fails, the program does not
            return toward(self._world.hand, self._world.hand, OPEN)
        return self._go_for(plan)

    def _go_for(self, plan: PutPlan) -> Action:
        """Go over the grasp and down the funnel, with open fingers; close once they are round the thing."""
        grasp = self._world.pose(self._object) @ plan.grasp
        hand, out = self._world.hand, -grasp.rotation[:, 2]
        stalled = self._stall.update(hand)
        aside_m = aside_of_grasp_m(hand, grasp, room_m(plan.width_m))
        up_m = float(out @ (hand.position - grasp.position))
        is_open = self._world.opening_m > plan.width_m
        if is_open and aside_m == 0.0 and -BELOW_M < up_m < ABOVE_M:
            self._pinching_at = grasp
            return self._pinch()
        if stalled:
            self._give_up_grasp(plan)
        wanted_m = height_m(aside_m, up_m, HOVER_M, RETURN_M) if is_open else HOVER_M
        if wanted_m is None:
            return self._traveller.toward(grasp.moved(HOVER_M * out), OPEN)
        return toward(self._world.hand_at_rest, grasp.moved(wanted_m * out), OPEN)

    def _pinch(self) -> Action:
        self._closing += 1
        on_nothing = self._closing > STARTING_STEPS and self._world.fingers_rest
        if on_nothing or self._closing > CLOSING_STEPS + 3:
            self._closing = 0
            if (plan := self._current_plan()) is not None:
                self._give_up_grasp(plan)
        return toward(self._world.hand, self._pinching_at, CLOSE)

    def _give_up_grasp(self, plan: PutPlan) -> None:
        self._rejected.append(plan.grasp)
        self._plan = None
        self._stall.clear()
        self._start_leaving(-self._world.hand.rotation[:, 2])

    def _deliver(self) -> Action:
        self._closing = 0
        if self._homing:
            return self._go_home()
        placement = self._placement()
        hand, pose = self._world.hand, self._world.pose(self._object)
        error = placement.pose.position - pose.position
        # Control the object's origin, not the hand: slip and grasp offset cancel.
        target = Pose(hand.position + error, self._hand_rotation(placement))
        up_m = float(-error @ placement.exit)
        aside_m = float(np.linalg.norm(error + up_m * placement.exit))
        wanted_m = height_m(max(aside_m - PLACING_ROOM_M, 0.0), up_m, placement.way_in_m)
        if wanted_m is not None:
            return self._lower(target.moved(wanted_m * placement.exit), up_m, sinks=wanted_m < up_m)
        self._lowering.clear()
        escape = self._world.way_from_under(self._object)
        if escape.any():
            return toward(hand, hand.moved(self._out_and_up(unit(escape))), CLOSE)
        if self._stall.update(hand):
            return self._go_home()
        below = float(hand.position[2] - self._world.extent(self._object)[0][2])
        before = target.moved(placement.way_in_m * placement.exit)
        return self._traveller.toward(before, CLOSE, reach_down_m=below, ignore=[self._object])

    def _go_home(self) -> Action:
        """Untwist an arm that is stuck on its way: carry the object to where the arm began, and plan anew.

        The hand goes as the joints would: a straight elbow does not let it come straight back.
        """
        self._lowering.clear()
        home = self._rehearsal.hand_at(self._world.home_q)
        near = np.linalg.norm(self._world.hand.position - home.position) < NEAR_HOME_M
        self._homing += 1
        if near or self._homing > HOMING_STEPS:
            self._homing = 0
            self._plan = None
            self._stall.clear()
        missing = self._world.home_q - self._world.arm_q
        part = HOMING_RAD / max(float(np.abs(missing).max()), HOMING_RAD)
        return toward(self._world.hand, self._rehearsal.hand_at(self._world.arm_q + part * missing), CLOSE)

    def _out_and_up(self, out: Vector) -> Vector:
        """Rise a little, then go out: what is dragged along the floor slips out of the fingers."""
        risen_m = float(self._world.pose(self._object).position[2] - self._planned_at.position[2])
        share = float(np.clip(risen_m / UNSTICK_M, LEAST_SHARE, 1.0))
        return UNSTICK_M * (share * out + (1.0 - share) * UP)

    def _placement(self) -> Placement:
        """Take the planned one; from a state that starts with the object in hand, plan it now."""
        if self._plan is None:
            self._plan = self._planner.plan_held()
        return self._plan.placement

    def _hand_rotation(self, placement: Placement) -> np.ndarray:
        assert self._plan is not None
        return placement.pose.rotation @ self._plan.grasp.rotation

    def _lower(self, target: Pose, up_m: float, *, sinks: bool) -> Action:
        """Go down until it is in place or stands on something, and let go: pressing on looks the same."""
        self._lowering = [*self._lowering, up_m] if sinks else []
        recent = self._lowering[-3:]
        stopped = len(self._lowering) > STARTING_STEPS and recent[0] - recent[-1] < SINKING_M
        if stopped and up_m > ASTRAY_M and self._second_tries < SECOND_TRIES:
            self._second_tries += 1
            return self._go_home()
        if up_m < LOWERED_M or stopped:
            self._opening = 1
        return toward(self._world.hand_at_rest, target, CLOSE)

    def _let_go(self) -> Action:
        self._opening += 1
        if self._opening > OPENING_STEPS:
            self._opening = 0
            exit_ = self._plan.placement.exit if self._plan else UP
            self._start_leaving(exit_, max(EXIT_M, self._plan.placement.way_in_m if self._plan else 0.0))
        return toward(self._world.hand, self._world.hand, OPEN)

    def _start_leaving(self, direction: np.ndarray, length_m: float = EXIT_M) -> None:
        hand = self._world.hand
        self._leaving = hand.moved(length_m * direction)
        self._leaving_steps = 0
        self._plan = None
        self._missed = FLICKER_STEPS
        self._lowering.clear()

    def _leave(self, target: Pose) -> Action:
        self._leaving_steps += 1
        near = np.linalg.norm(self._world.hand.position - target.position) < 0.02
        if near or self._leaving_steps > LEAVING_STEPS:
            self._leaving = None
            self._stall.clear()
        return toward(self._world.hand, target, OPEN)
