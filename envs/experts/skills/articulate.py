"""Open, close or switch a fixture: take hold of its moving part (or lean on it) and follow its path."""

from __future__ import annotations

import numpy as np

from vega_policy.envs.experts.contacts import Hold, HoldPlanner
from vega_policy.envs.experts.geometry import Pose, Vector, angle_between, unit
from vega_policy.envs.experts.goal import Subgoal
from vega_policy.envs.experts.joints import PRESS_M, MovingPart, is_reached, moving_part
from vega_policy.envs.experts.motion import CLOSE, OPEN, Action, StallMonitor, toward
from vega_policy.envs.experts.rehearsal import ELBOW, Rehearsal
from vega_policy.envs.experts.skills.base import STARTING_STEPS, Traveller
from vega_policy.envs.experts.skills.funnel import FREE_TURN_RAD, RADIUS_M, aside_of_grasp_m, room_m
from vega_policy.envs.experts.world import World

CLOSING_STEPS, LEAVING_STEPS = 11, 25
STOP_STEPS = 4  # against the stop: who learns this lets go some steps too early
EXIT_M = 0.04
LEAD_IN_M = 0.02  # along a line, not diagonally: open fingers have little room between two handles
WAIT_ASIDE_M, PACE_ASIDE_M = 0.012, 0.004  # off the line: no further in; full pace
STRETCHED_RAD, PULL_BACK_M, MOST_PULLS = -1.3, 0.06, 3
LEAN_RAD = 0.3  # turned so far, or the funnel's radius off: out to where the way in begins
NEAR_M = 0.08  # of the line: straight back to it; further off, over all that is in between
BEYOND = 1.1  # of the way in: past its end there is the cabinet
TOUCH_M, TOUCH_RAD = 0.012, 0.15  # close enough to push
SHORT_M = 0.005  # of the depth at which the fingers go round the part
LOST_M = 0.06
SLIPPED = 0.6  # of the width held: the fingers have closed on nothing, and it is to be taken again
APPROACH_STEPS = 80  # an arm near its limits may circle round a hold for ever


class Articulate:
    """Reaches one subgoal `open`, `close`, `turnon` or `turnoff`."""

    def __init__(self, world: World, rehearsal: Rehearsal, subgoal: Subgoal, rng: np.random.Generator):
        self._world = world
        self._subgoal = subgoal
        self._traveller = Traveller(world)
        self._planner = HoldPlanner(world, rehearsal, subgoal, rng)
        self._hold: Hold | None = None
        self._rejected: list[Hold] = []
        self._closing = self._approaching = 0
        self._moving = False
        self._sign = 0.0
        self._stopping = 0
        self._leaving: Pose | None = None
        self._leaving_steps = self._pulls = 0
        self._opening_first = False
        self._pressing: Vector = np.zeros(3)
        self._stall = StallMonitor(window_steps=12)

    def done(self) -> bool:
        """Whether the subgoal holds and the hand has left."""
        return self._reached() and self._leaving is None and self._hold is None

    def _reached(self) -> bool:
        return is_reached(self._world, self._subgoal)

    def act(self) -> Action:
        """Return the next action."""
        if self._leaving is not None:
            return self._leave(self._leaving)
        part = moving_part(self._world, self._subgoal)
        if self._reached():
            return self._stop(part)
        if self._hold is None:
            self._hold, self._sign = self._planner.plan(part, self._rejected), part.sign
        hand = part.carried(self._hold.hand, part.q - self._hold.q, self._hold.turning)
        self._approaching = 0 if self._moving else self._approaching + 1
        lost = self._stall.update(self._world.hand) or self._approaching > APPROACH_STEPS
        if lost and not self._closing:
            self._rejected.append(self._hold)
            return self._let_go()
        if self._moving and self._hold.grips and self._world.opening_m < SLIPPED * self._hold.width_m:
            return self._let_go()
        if self._moving:
            return self._follow(self._hold, part, hand)
        return self._approach(self._hold, part, hand)

    def _stop(self, part: MovingPart) -> Action:
        """Stay against the stop of a drawer or door for a while, and let go."""
        has_stop = self._subgoal.relation in ("open", "close")
        if self._hold is None or not (self._moving and has_stop) or self._stopping == STOP_STEPS:
            return self._let_go()
        self._stopping += 1
        hand = part.carried(self._hold.hand, part.q - self._hold.q, self._hold.turning)
        return self._follow(self._hold, part, hand)

    def _approach(self, hold: Hold, part: MovingPart, contact: Pose) -> Action:
        hand = self._world.hand
        grip = OPEN if hold.grips else CLOSE
        before = part.carried(hold.before, part.q - hold.q, hold.turning)
        if self._closing:
            return self._close_on(contact)
        if hold.grips and self._is_round(hold, contact):
            return self._close_on(contact)
        if not hold.grips and self._touches(contact):
            return self._follow(hold, part, contact)
        way = contact.position - before.position
        share = float((hand.position - before.position) @ way / (way @ way))
        aside_m = float(np.linalg.norm(hand.position - before.position - np.clip(share, 0, 1) * way))
        if aside_m > NEAR_M or share > BEYOND:
            return self._traveller.toward(before, grip)
        lead = _falling(aside_m, PACE_ASIDE_M, WAIT_ASIDE_M) * LEAD_IN_M / float(np.linalg.norm(way))
        along = min(max(share, 0.0) + lead, _deepest(aside_m, self._turn(contact)))
        return toward(hand, Pose(before.position + along * way, contact.rotation), grip)

    def _is_round(self, hold: Hold, contact: Pose) -> bool:
        """Whether closing fingers would go round the part, which is as deep between them as it will be."""
        hand = self._world.hand
        short_m = float(contact.rotation[:, 2] @ (contact.position - hand.position))
        return short_m < SHORT_M and aside_of_grasp_m(hand, contact, room_m(hold.width_m)) == 0.0

    def _touches(self, contact: Pose) -> bool:
        near = np.linalg.norm(self._world.hand.position - contact.position) < TOUCH_M
        return bool(near) and self._turn(contact) < TOUCH_RAD

    def _turn(self, pose: Pose) -> float:
        return angle_between(self._world.hand.rotation, pose.rotation)

    def _close_on(self, contact: Pose) -> Action:
        self._closing += 1
        closed = self._closing > STARTING_STEPS and self._world.fingers_rest
        if closed or self._closing > CLOSING_STEPS:
            self._closing, self._moving = 0, True
            self._stall.clear()
        return toward(self._world.hand, contact, CLOSE)

    def _follow(self, hold: Hold, part: MovingPart, contact: Pose) -> Action:
        """Lead the part on its path; the hand is sent ahead of where the part is."""
        if not self._moving:
            self._stall.clear()
        self._moving = True
        if np.linalg.norm(self._world.hand.position - contact.position) > LOST_M:
            self._moving = False
        ahead = part.carried(hold.hand, part.ahead_q(self._sign) - hold.q, hold.turning)
        return toward(self._world.hand, ahead, CLOSE)

    def _let_go(self) -> Action:
        hold, hand = self._hold, self._world.hand
        part = moving_part(self._world, self._subgoal)
        if hold is None:
            self._leaving = hand
        elif hold.grips:
            self._leaving = hand.moved(-EXIT_M * hand.rotation[:, 2])
        else:
            before = part.carried(hold.before, part.q - hold.q, hold.turning)
            self._leaving = Pose(before.position, hand.rotation)
        self._hold, self._moving = None, False
        self._closing = self._approaching = self._stopping = self._leaving_steps = self._pulls = 0
        self._opening_first = hold is not None and hold.grips
        # Fingers that open take the drawer along; a nudge off its stop, and it would have to be opened again.
        is_drawer = part.slides and self._subgoal.relation == "open"
        self._pressing = PRESS_M * self._sign * part.axis * is_drawer
        return toward(hand, hand, OPEN)

    def _leave(self, target: Pose) -> Action:
        hand = self._world.hand
        self._leaving_steps += 1
        if self._opening_first and self._leaving_steps < 5:
            return toward(hand, hand.moved(self._pressing), OPEN)
        if np.linalg.norm(hand.position - target.position) < 0.02 or self._leaving_steps > LEAVING_STEPS:
            self._leaving = self._pulled_back(hand)
            self._leaving_steps = 5
            self._stall.clear()
        return toward(hand, target, OPEN)

    def _pulled_back(self, pose: Pose) -> Pose | None:
        """Return where to go before the hand may turn: an arm that turns it while stretched gets stuck."""
        if self._world.arm_q[ELBOW] < STRETCHED_RAD or self._pulls == MOST_PULLS:
            return None
        self._pulls += 1
        return pose.moved(PULL_BACK_M * unit((self._world.base - pose.position) * [1.0, 1.0, 0.0]))


def _deepest(aside_m: float, turn_rad: float) -> float:
    """Return how much of the way in a hand may have gone that is so far off the line, and so turned.

    It is continuous, as is the funnel over a grasp: where a small push decides between "in" and "out", who
    learns from it does neither.
    """
    return min(_falling(aside_m, WAIT_ASIDE_M, RADIUS_M), _falling(turn_rad, FREE_TURN_RAD, LEAN_RAD))


def _falling(value: float, start: float, end: float) -> float:
    """Return 1 up to `start`, 0 from `end` on, and a line in between."""
    return float(np.clip((end - value) / (end - start), 0.0, 1.0))
