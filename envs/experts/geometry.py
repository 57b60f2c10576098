"""Rigid poses and rotations, in world coordinates and metres unless said otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Vector = Float[np.ndarray, "3"]
Matrix = Float[np.ndarray, "3 3"]

UP: Vector = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Pose:
    """A rigid transform: maps coordinates of its own frame to those of the parent frame."""

    position: Vector
    rotation: Matrix

    def __matmul__(self, other: Pose) -> Pose:
        return Pose(self.apply(other.position), self.rotation @ other.rotation)

    def inverse(self) -> Pose:
        """Return the transform from the parent frame to this frame."""
        return Pose(-self.rotation.T @ self.position, self.rotation.T)

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Map points (..., 3) of this frame to the parent frame."""
        return points @ self.rotation.T + self.position

    def moved(self, offset_m: Vector) -> Pose:
        """Return this pose translated by an offset of the parent frame."""
        return Pose(self.position + offset_m, self.rotation)

    def turned(self, rotation: Matrix) -> Pose:
        """Return this pose with `rotation`, in the parent frame, applied about its own origin."""
        return Pose(self.position, rotation @ self.rotation)


def rotation_about(axis: Vector, angle_rad: float) -> Matrix:
    """Return the rotation by `angle_rad` about a unit axis."""
    import mujoco

    quaternion, matrix = np.empty(4), np.empty(9)
    mujoco.mju_axisAngle2Quat(quaternion, axis, angle_rad)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)


def rotation_vector(rotation: Matrix) -> Vector:
    """Return axis times angle (rad, angle in [0, pi]) of a rotation matrix."""
    import mujoco

    quaternion, vector = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quaternion, rotation.ravel())
    mujoco.mju_quat2Vel(vector, quaternion, 1.0)
    return vector


def angle_between(first: Matrix, second: Matrix) -> float:
    """Return the angle in radians that turns `first` into `second`."""
    cosine = (np.trace(first.T @ second) - 1.0) / 2.0
    return float(np.arccos(np.clip(cosine, -1.0, 1.0)))


def unit(vector: Vector) -> Vector:
    """Return the vector scaled to length one."""
    return vector / np.linalg.norm(vector)


DOWN: Matrix = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
"""The hand's rotation after a reset: it points down and closes along world y."""

WRIST_MIDDLE_RAD = 0.3
"""From there about the vertical, toward the side on which the wrist has more room; found by trial."""


def hand_rotation(closing: Vector, approach: Vector) -> Matrix:
    """Return the rotation of a hand that closes along one axis and points along another, perpendicular one.

    Both fingers are alike, so turning the hand by pi about its approach changes nothing but the wrist; the
    one nearer to the wrist's middle is returned. At reset the wrist's joint is 0.8 rad of its 2.9 rad to one
    side; a quarter turn farther that way and a leaning hand would reach its end.
    """
    rotation = np.stack([closing, np.cross(approach, closing), approach], axis=1)
    flipped = rotation * [-1.0, -1.0, 1.0]
    middle = rotation_about(UP, WRIST_MIDDLE_RAD) @ DOWN
    return min((rotation, flipped), key=lambda option: angle_between(middle, option))


def safe_turn(current: Matrix, target: Matrix) -> Vector:
    """Return a rotation vector that leads a hand from one rotation to another past no awkward posture.

    The short way round may point the hand back at the robot or wind up the wrist. Here the approach axis
    swings the shortest way, and the roll about it changes by the difference of both rolls, measured from
    `DOWN` and not wrapped. Near the target this is the plain rotation vector.
    """
    plain = rotation_vector(target @ current.T)
    if np.linalg.norm(plain) < NEAR_RAD:
        return plain
    return _swing(current[:, 2], target[:, 2]) + (_roll(target) - _roll(current)) * current[:, 2]


NEAR_RAD = 0.5


def _swing(start: Vector, end: Vector) -> Vector:
    """Return the shortest rotation vector between two directions."""
    axis = np.cross(start, end)
    sine = float(np.linalg.norm(axis))
    return axis * (np.arctan2(sine, start @ end) / sine) if sine > 1e-9 else np.zeros(3)


def _roll(rotation: Matrix) -> float:
    """Return the angle about the approach axis beyond the shortest swing from `DOWN`, in (-pi, pi]."""
    swing = _swing(DOWN[:, 2], rotation[:, 2])
    angle = float(np.linalg.norm(swing))
    unrolled = rotation_about(swing / angle, angle) @ DOWN if angle > 1e-9 else DOWN
    return float(np.arctan2(unrolled[:, 1] @ rotation[:, 0], unrolled[:, 0] @ rotation[:, 0]))
