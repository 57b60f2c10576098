"""From a hand pose and a target to one 7-dim action of LIBERO's OSC_POSE controller at 20 Hz.

The controller adds `0.05 m * a` and turns by `0.5 rad * a` (world frame, robosuite's `osc_pose.json`)
starting from the *current* hand pose, and saturates near 13 mm per step; so a proportional law with a gain
far above one moves at full speed and still stops without overshoot.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from jaxtyping import Float

from vega_policy.envs.experts.geometry import Pose, rotation_vector, safe_turn

Action = Float[np.ndarray, "7"]

TRANSLATION_SCALE_M = 0.05
ROTATION_SCALE_RAD = 0.5
ROTATION_GAIN = 1.5
STAY_TURN = 1e-6
OPEN, CLOSE = -1.0, 1.0
TREMBLE_STEPS, TREMBLE_M, TREMBLE_RAD = 40, 0.003, 0.15


def toward(hand: Pose, target: Pose, grip: float, *, gain: float = 3.0, speed: float = 1.0) -> Action:
    """Return the action that moves the hand toward `target` on a straight line.

    Args:
        hand: Current pose of the grip site.
        target: Wanted pose of the grip site.
        grip: `OPEN` or `CLOSE`.
        gain: Share of the remaining distance asked for, per step.
        speed: Cap on each translation input, in (0, 1].
    """
    translation = gain * (target.position - hand.position) / TRANSLATION_SCALE_M
    turn = ROTATION_GAIN * safe_turn(hand.rotation, target.rotation) / ROTATION_SCALE_RAD
    # With all rotation inputs zero the controller would go on to the last orientation it was asked for.
    held = turn if turn.any() else np.array([STAY_TURN, 0.0, 0.0])
    return np.concatenate([_limited(translation, speed), _limited(held, 1.0), [grip]])


def _limited(inputs: np.ndarray, limit: float) -> np.ndarray:
    """Scale down to the largest allowed input; the direction stays."""
    largest = np.abs(inputs).max()
    return inputs * (limit / largest) if largest > limit else inputs


class StallMonitor:
    """Tells when the hand has stopped although it is being sent somewhere.

    It stands still, or (under disturbed actions, which keep it trembling) it has not got anywhere for longer.
    """

    def __init__(self, window_steps: int = 8, travel_m: float = 0.0015, turn_rad: float = 0.02):
        self._poses: deque[Pose] = deque(maxlen=TREMBLE_STEPS)
        self._window_steps = window_steps
        self._travel_m = travel_m
        self._turn_rad = turn_rad

    def clear(self) -> None:
        """Forget the past, e.g. because a new motion begins."""
        self._poses.clear()

    def update(self, hand: Pose) -> bool:
        """Add the current pose; return whether the hand has stopped."""
        self._poses.append(hand)
        return self._stands_still() or self._trembles()

    def _stands_still(self) -> bool:
        if len(self._poses) < self._window_steps:
            return False
        travel_m, turn_rad = _between(self._poses[-self._window_steps], self._poses[-1])
        return travel_m < self._travel_m and turn_rad < self._turn_rad

    def _trembles(self) -> bool:
        if len(self._poses) < TREMBLE_STEPS:
            return False
        positions = np.array([pose.position for pose in self._poses])
        earlier, later = np.split(positions, 2)
        got_m = float(np.linalg.norm(later.mean(axis=0) - earlier.mean(axis=0)))
        return got_m < TREMBLE_M and _between(self._poses[0], self._poses[-1])[1] < TREMBLE_RAD


def _between(first: Pose, last: Pose) -> tuple[float, float]:
    """Return how far (m) and by how much (rad) two poses differ."""
    travel = np.linalg.norm(last.position - first.position)
    turn = np.linalg.norm(rotation_vector(last.rotation @ first.rotation.T))
    return float(travel), float(turn)
