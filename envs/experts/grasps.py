"""Antipodal grasps planned from collision geometry, the same way for every object.

Two surface points that face each other, closer than the fingers open, are a place to pinch: the wall of a
bowl, sides of a carton, a handle, the knob of a lid. Which of them is good is a matter of a few soft costs
here and of a rehearsal with the whole arm later.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vega_policy.envs.experts.geometry import (
    DOWN,
    UP,
    Matrix,
    Pose,
    Vector,
    angle_between,
    hand_rotation,
    rotation_about,
    unit,
)
from vega_policy.envs.experts.surface import Surface

OPENING_M, MAX_WIDTH_M = 0.08, 0.07  # of the fingers; of what they go round
MIN_WIDTH_M = 0.002
PAD_HALF_M = 0.008
PAD_ABOVE_SITE_M = 0.0035
GOOD_DEPTH_M = 0.020
MAX_PAIRS = 250
APART_M = 0.012
SIDE, SIDE_COST_PER_M = np.array([0.0, -1.0]), 6.0  # the robot's right
TURN_COST_PER_RAD = 0.6
"""Of a round thing any two sides will do: cheap turns would let small things choose, now these, now those."""
EASY_REACH_M = 0.70  # beyond, a vertical hand straightens the elbow, and then it gets stuck
FAR_COST_PER_M = 14.0
STEEP, STEEPEST = 0.6, 0.9
"""Vertical component that the closing axis of an upright grasp may have; the second where nothing else is
left: a carton that leans at 45 degrees has no two upright sides."""


@dataclass(frozen=True)
class Grasp:
    """A hand pose (world frame) from which closing the fingers holds the object, and its soft cost."""

    hand: Pose
    width_m: float
    cost: float


@dataclass(frozen=True)
class Pinches:
    """Antipodal pairs: middle points (n, 3), closing axes (n, 3) and widths (n,)."""

    middles: Float[np.ndarray, "n 3"]
    axes: Float[np.ndarray, "n 3"]
    widths_m: Float[np.ndarray, " n"]


def find_pinches(surface: Surface, rng: np.random.Generator, steepest: float = STEEP) -> Pinches:
    """Pair surface points with the nearest point that faces away from them on the other side.

    Args:
        surface: Surface of the object, world frame.
        rng: Chooses which points are tried when there are many.
        steepest: Largest vertical component of a closing axis; 1 allows all.
    """
    usable = np.abs(surface.normals[:, 2]) <= steepest
    points, normals = surface.points[usable], surface.normals[usable]
    tried = rng.permutation(len(points))[: 4 * MAX_PAIRS]
    across = points[tried, None] - points[None]
    depth = np.einsum("ijk,ik->ij", across, normals[tried])
    aside = np.linalg.norm(across - depth[..., None] * normals[tried, None], axis=2)
    facing = normals[tried] @ normals.T < -0.85
    possible = facing & (aside < 0.006) & (depth > MIN_WIDTH_M) & (depth < MAX_WIDTH_M)
    nearest = np.where(possible, depth, np.inf).argmin(axis=1)
    found = possible[np.arange(len(tried)), nearest]
    widths = depth[np.arange(len(tried)), nearest][found]
    starts, axes = points[tried][found], normals[tried][found]
    return Pinches(starts - axes * widths[:, None] / 2, axes, widths)


def upright_grasps(
    surface: Surface, centre_of_mass: Vector, base: Vector, rng: np.random.Generator
) -> list[Grasp]:
    """Return grasps of an object with the hand pointing straight down, without those much like a better one.

    Args:
        surface: Surface of the object, world frame.
        centre_of_mass: Of the object, world frame.
        base: Where the robot stands; far from it, the side facing it is preferred.
        rng: Chooses among many surface points.
    """
    pinches = find_pinches(surface, rng)
    if not len(pinches.middles):
        pinches = find_pinches(surface, rng, STEEPEST)
    if not len(pinches.middles):
        return []
    rotations = [hand_rotation(unit(axis * [1.0, 1.0, 0.0]), -UP) for axis in pinches.axes]
    far = np.linalg.norm((pinches.middles - base)[:, :2], axis=1) - EASY_REACH_M
    costs = _pinch_costs(pinches, surface, centre_of_mass) + FAR_COST_PER_M * np.maximum(far, 0.0)
    costs += [_turn_cost(rotation) for rotation in rotations]
    grasps = []
    for index in _spread(pinches.middles, np.argsort(costs))[:MAX_PAIRS]:
        site = pinches.middles[index] + PAD_ABOVE_SITE_M * rotations[index][:, 2]
        hand = Pose(site, rotations[index])
        grasps.append(Grasp(hand, float(pinches.widths_m[index]), float(costs[index])))
    return grasps


def leaning(grasps: list[Grasp], lean_rad: float) -> list[Grasp]:
    """Return upright grasps with the hand leaning about its closing axis, cheapest first.

    Args:
        grasps: Upright grasps, cheapest first.
        lean_rad: The angle; about the closing axis of the upright hand.
    """
    return [_leaned(grasp, lean_rad) for grasp in grasps]


def _leaned(grasp: Grasp, lean_rad: float) -> Grasp:
    closing = grasp.hand.rotation[:, 0]
    rotation = hand_rotation(closing, rotation_about(closing, lean_rad) @ -UP)
    pads = grasp.hand.position + PAD_ABOVE_SITE_M * UP
    site = pads + PAD_ABOVE_SITE_M * rotation[:, 2]
    return Grasp(Pose(site, rotation), grasp.width_m, grasp.cost + 0.5 * abs(lean_rad))


def _turn_cost(rotation: Matrix) -> float:
    """From the rotation after a reset, not from where the hand is; like turns are always the same one."""
    return TURN_COST_PER_RAD * angle_between(DOWN, rotation) - 0.05 * float(rotation[1, 1])


def _pinch_costs(pinches: Pinches, surface: Surface, centre_of_mass: Vector) -> Float[np.ndarray, " n"]:
    """Prefer large contact patches, about 2 cm below the local top, near the centre of mass, and thin.

    Of like grasps on two sides of an object it is always the same side: demonstrations that take now the one,
    now the other teach a regression to reach for the middle, where there is nothing to hold.
    """
    offset = pinches.middles - centre_of_mass
    off_centre = np.linalg.norm(offset[:, :2], axis=1)
    depth = _local_tops(pinches, surface) - pinches.middles[:, 2]
    depth_cost = 8.0 * np.abs(depth - GOOD_DEPTH_M) + 0.6 * (depth < 0.009)
    side_cost = -SIDE_COST_PER_M * offset[:, :2] @ SIDE
    patch_cost = 0.6 * (1.0 - _patches(pinches, surface))
    return 4.0 * off_centre + depth_cost + 2.0 * pinches.widths_m + patch_cost + side_cost


def _local_tops(pinches: Pinches, surface: Surface) -> Float[np.ndarray, " n"]:
    """Return the height of what would be between and under the open fingers."""
    across = surface.points[None] - pinches.middles[:, None]
    along = np.abs(np.einsum("ijk,ik->ij", across, pinches.axes))
    sideways = np.abs(np.einsum("ijk,ik->ij", across, np.cross(UP, pinches.axes)))
    under = (along < MAX_WIDTH_M / 2) & (sideways < 0.01)
    return np.where(under, surface.points[None, :, 2], -np.inf).max(axis=1)


def _patches(pinches: Pinches, surface: Surface) -> Float[np.ndarray, " n"]:
    """Return which share (0 to 1) of both pads would lie flat on the surface."""
    shares = []
    for side in (1.0, -1.0):
        centres = pinches.middles + side * pinches.axes * pinches.widths_m[:, None] / 2
        across = surface.points[None] - centres[:, None]
        height = np.abs(np.einsum("ijk,ik->ij", across, pinches.axes))
        flat = surface.normals @ (side * pinches.axes).T > 0.9
        close = (np.linalg.norm(across, axis=2) < 1.2 * PAD_HALF_M) & (height < 0.003) & flat.T
        shares.append(np.minimum(close.sum(axis=1) / 5.0, 1.0))
    return np.minimum(*shares)


def _spread(points: Float[np.ndarray, "n 3"], order: Int[np.ndarray, " n"]) -> list[int]:
    """Return the indices in order, without those nearer than 12 mm to an earlier one."""
    kept: list[int] = []
    for index in order:
        if not kept or np.linalg.norm(points[kept] - points[index], axis=1).min() > APART_M:
            kept.append(int(index))
    return kept
