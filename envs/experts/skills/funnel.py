"""The last centimetres to a grasp or a place: how far up to be, by how far aside.

Who learns from the expert's actions sees its target only to a centimetre or so. Places that far apart must
not ask for opposite things ("down" here, "up, and come again" there): regression learns to stay in between.
So the height asked for is continuous, what is a little aside moves level, and nothing goes up again before it
is far aside.
"""

from __future__ import annotations

import numpy as np

from vega_policy.envs.experts.geometry import Pose, Vector, angle_between
from vega_policy.envs.experts.grasps import OPENING_M

RADIUS_M = 0.03
LEVEL_M = 0.01  # less than that aside, nothing goes up
RETURN_M = 0.06  # beside a grasp: as far as that aside, back up a gentler slope than the funnel's wall
OVER_M, UNDER_M = 0.05, 0.03
FINGER_ROOM_M, LEAST_ROOM_M, MOST_ROOM_M = 0.005, 0.004, 0.012
FREE_TURN_RAD, ASIDE_PER_RAD_M = 0.15, 0.05


def height_m(aside_m: float, up_m: float, length_m: float, return_m: float = RADIUS_M) -> float | None:
    """Return how far up the way in to be next.

    Args:
        aside_m: Distance from the way in, less the room there is.
        up_m: Where it is now on the way in; 0 at its end, negative past it.
        length_m: Of the way in.
        return_m: What is no further aside than that, and below the wall, comes back within the funnel, the
            higher the further aside; at least `RADIUS_M`.

    Returns:
        Between 0 and `length_m`; None outside the funnel, where one has to travel to its top.
    """
    if aside_m > return_m or not -UNDER_M < up_m < length_m + OVER_M:
        return None
    wall_m = length_m * min(aside_m / RADIUS_M, 1.0)
    if up_m >= wall_m:
        return wall_m
    share = float(np.clip((aside_m - LEVEL_M) / (return_m - LEVEL_M), 0.0, 1.0))
    return max(up_m + share * (wall_m - up_m), 0.0)


def aside_of_grasp_m(hand: Pose, grasp: Pose, room_m: Vector) -> float:
    """Return how far the open fingers are from going round the thing; 0 if they only have to come down.

    Args:
        hand: Where the hand is.
        grasp: Where it closes.
        room_m: By how much the hand may be off along the closing axis and across it (2).
    """
    off = grasp.rotation.T @ (hand.position - grasp.position)
    turn_rad = angle_between(hand.rotation, grasp.rotation)
    missing = np.maximum(np.abs(off[:2]) - room_m, 0.0)
    return float(np.linalg.norm(missing)) + ASIDE_PER_RAD_M * max(turn_rad - FREE_TURN_RAD, 0.0)


def room_m(width_m: float) -> Vector:
    """Return the room along the closing axis, where fingers would land on the thing, and across it (m)."""
    beside_m = (OPENING_M - width_m) / 2 - FINGER_ROOM_M
    return np.array([np.clip(beside_m, LEAST_ROOM_M, MOST_ROOM_M), MOST_ROOM_M])
