"""Surface points with outward normals of a body's collision geoms: what the grasp planner looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from vega_policy.envs.experts.geometry import Pose

SPACING_M = 0.006
PLANE, SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX, MESH = 0, 2, 3, 4, 5, 6, 7
"""MuJoCo's `mjtGeom`; importing this module must not import MuJoCo, which sets up OpenGL."""


@dataclass(frozen=True)
class Surface:
    """Points (n, 3) and outward unit normals (n, 3) in one frame."""

    points: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"]

    def seen_from(self, pose: Pose) -> Surface:
        """Return the surface in the parent frame of `pose`."""
        return Surface(pose.apply(self.points), self.normals @ pose.rotation.T)


def sample(model: Any, data: Any, geoms: list[int], spacing_m: float = SPACING_M) -> Surface:
    """Sample the joint outer surface of geoms, in world coordinates; covered faces are left out.

    Args:
        model: `mujoco.MjModel`.
        data: `mujoco.MjData` with current geom poses.
        geoms: Ids of convex primitives or meshes.
        spacing_m: Distance between neighbouring points.
    """
    parts = [_sample_geom(model, geom, spacing_m).seen_from(_geom_pose(data, geom)) for geom in geoms]
    kept = [_uncovered(model, data, part, geom, geoms) for part, geom in zip(parts, geoms, strict=True)]
    return Surface(
        np.concatenate([part.points for part in kept]), np.concatenate([part.normals for part in kept])
    )


def _geom_pose(data: Any, geom: int) -> Pose:
    return Pose(data.geom_xpos[geom].copy(), data.geom_xmat[geom].reshape(3, 3).copy())


def _uncovered(model: Any, data: Any, part: Surface, own: int, geoms: list[int]) -> Surface:
    """Drop points whose outside, 1.5 mm off the face, lies within another geom."""
    outside = part.points + 0.0015 * part.normals
    covered = np.zeros(len(outside), dtype=bool)
    for geom in geoms:
        if geom != own:
            covered |= _contains(model, geom, _geom_pose(data, geom).inverse().apply(outside))
    return Surface(part.points[~covered], part.normals[~covered])


def _contains(model: Any, geom: int, local: np.ndarray) -> np.ndarray:
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == BOX:
        return np.all(np.abs(local) < size, axis=1)
    if kind == CYLINDER:
        return (np.hypot(local[:, 0], local[:, 1]) < size[0]) & (np.abs(local[:, 2]) < size[1])
    if kind == CAPSULE:
        beyond = np.maximum(np.abs(local[:, 2]) - size[1], 0.0)
        return np.hypot(np.hypot(local[:, 0], local[:, 1]), beyond) < size[0]
    if kind in (SPHERE, ELLIPSOID):
        radii = size if kind == ELLIPSOID else np.full(3, size[0])
        return np.sum((local / radii) ** 2, axis=1) < 1.0
    return np.zeros(len(local), dtype=bool)


def _sample_geom(model: Any, geom: int, spacing_m: float) -> Surface:
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == BOX:
        return _box(size, spacing_m)
    if kind in (CYLINDER, CAPSULE):
        return _cylinder(size[0], size[1], spacing_m)
    if kind in (SPHERE, ELLIPSOID):
        return _ellipsoid(size if kind == ELLIPSOID else np.full(3, size[0]), spacing_m)
    if kind == MESH:
        return _mesh(model, model.geom_dataid[geom])
    return Surface(np.empty((0, 3)), np.empty((0, 3)))


def _centres(half: float, spacing_m: float) -> np.ndarray:
    """Return cell centres that divide [-half, half] evenly, at least one."""
    count = max(1, round(2 * half / spacing_m))
    return (np.arange(count) + 0.5) / count * 2 * half - half


def _box(size: np.ndarray, spacing_m: float) -> Surface:
    points, normals = [], []
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        grid = np.meshgrid(*(_centres(size[other], spacing_m) for other in others), indexing="ij")
        for sign in (-1.0, 1.0):
            face = np.zeros((grid[0].size, 3))
            face[:, others[0]], face[:, others[1]] = grid[0].ravel(), grid[1].ravel()
            face[:, axis] = sign * size[axis]
            points.append(face)
            normals.append(np.tile(sign * np.eye(3)[axis], (len(face), 1)))
    return Surface(np.concatenate(points), np.concatenate(normals))


def _cylinder(radius: float, half: float, spacing_m: float) -> Surface:
    angles = np.linspace(0.0, 2 * np.pi, max(12, round(2 * np.pi * radius / spacing_m)), endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], axis=1)
    heights = _centres(half, spacing_m)
    side = (radius * ring)[None] + heights[:, None, None] * np.array([0.0, 0.0, 1.0])
    normals = np.broadcast_to(ring, side.shape)
    return Surface(side.reshape(-1, 3), normals.reshape(-1, 3))


def _ellipsoid(radii: np.ndarray, spacing_m: float) -> Surface:
    count = max(24, round(4 * np.pi * float(radii.mean()) ** 2 / spacing_m**2))
    turns = np.arange(count) * np.pi * (3.0 - np.sqrt(5.0))  # golden angle: even cover of the sphere
    heights = 1.0 - 2.0 * (np.arange(count) + 0.5) / count
    flat = np.sqrt(1.0 - heights**2)
    sphere = np.stack([flat * np.cos(turns), flat * np.sin(turns), heights], axis=1)
    normals = sphere / radii
    return Surface(sphere * radii, normals / np.linalg.norm(normals, axis=1, keepdims=True))


def _mesh(model: Any, mesh: int) -> Surface:
    """One point per face; collision meshes are coarse convex pieces."""
    first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
    vertices = model.mesh_vert[first : first + count]
    faces = model.mesh_face[model.mesh_faceadr[mesh] : model.mesh_faceadr[mesh] + model.mesh_facenum[mesh]]
    corners = vertices[faces].astype(float)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    keep = lengths > 1e-12
    return Surface(corners.mean(axis=1)[keep], normals[keep] / lengths[keep, None])
