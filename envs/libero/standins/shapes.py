"""Round things out of boxes: hollow rings for bowls and mugs, many-sided prisms for cans and bottle necks.

MuJoCo's primitives are convex and its cylinders touch a table in too few points to stand still, hence boxes.
"""

import math

from vega_policy.envs.libero.standins import mjcf
from vega_policy.envs.libero.standins.mjcf import Vec
from vega_policy.envs.libero.standins.parts import Part

Y_AXIS, Z_AXIS = (0, 1, 0), (0, 0, 1)


def ring(
    part: Part,
    radius_m: float,
    z_m: float,
    half_height_m: float,
    half_thickness_m: float,
    *,
    lean_rad: float = 0.0,
    sides: int = 16,
    center: tuple[float, float] = (0.0, 0.0),
    material: str | None = None,
    solid: bool = True,
    start_rad: float = 0.0,
) -> None:
    """Adds a wall of `sides` boxes around z, solid and, if a material is given, drawn.

    Args:
        part: the body to add to.
        radius_m: from the axis to the middle of the wall at height `z_m`.
        z_m: height of the wall's middle.
        half_height_m: half the wall's extent along its own slope.
        half_thickness_m: half the wall's thickness.
        lean_rad: how far the wall leans outward from upright; pi/2 is a flat disc's rim.
        sides: number of boxes.
        center: where the axis stands.
        material: what to draw the wall with; None draws nothing.
        solid: whether the wall collides.
        start_rad: direction of the first box.
    """
    top_radius_m = radius_m + half_height_m * abs(math.sin(lean_rad)) + half_thickness_m
    half_width_m = top_radius_m * math.tan(math.pi / sides)
    for index in range(sides):
        angle_rad = start_rad + 2 * math.pi * index / sides
        pos = (center[0] + radius_m * math.cos(angle_rad), center[1] + radius_m * math.sin(angle_rad), z_m)
        quat = mjcf.multiply(mjcf.turn(Z_AXIS, angle_rad), mjcf.turn(Y_AXIS, lean_rad))
        size = (half_thickness_m, half_width_m, half_height_m)
        if solid:
            part.solid("box", size, pos, quat)
        if material is not None:
            part.draw("box", size, pos, quat, material=material)


def prism(
    part: Part, radius_m: float, half_height_m: float, pos: Vec = (0, 0, 0), *, sides: int = 12
) -> None:
    """Adds a solid upright prism of crossing boxes, with its corners at `radius_m`.

    The number of sides is a multiple of four. All boxes but the first and the one across it end 1 mm short,
    so that the prism stands on few contacts.
    """
    along_m, across_m = radius_m * math.cos(math.pi / sides), radius_m * math.sin(math.pi / sides)
    for index in range(sides // 2):
        height_m = half_height_m if index in (0, sides // 4) else half_height_m - 0.001
        part.solid("box", (along_m, across_m, height_m), pos, mjcf.turn(Z_AXIS, 2 * math.pi * index / sides))


def floor(
    part: Part, radius_m: float, z_m: float, half_height_m: float, center: tuple[float, float] = (0, 0)
) -> None:
    """Adds a solid, roughly round floor of two crossing boxes."""
    long_m, short_m = radius_m * 0.924, radius_m * 0.383 * 1.7
    for size in ((long_m, short_m, half_height_m), (short_m, long_m, half_height_m)):
        part.solid("box", size, (*center, z_m))


def bar(
    part: Part, start: Vec, end: Vec, half_width_m: Vec, *, material: str | None = None, solid: bool = True
) -> None:
    """Adds a box from `start` to `end`, both in the x-z plane of the part.

    `half_width_m` holds the half sizes across: in the x-z plane and along y.
    """
    dx, dz = end[0] - start[0], end[2] - start[2]
    size = (half_width_m[0], half_width_m[1], math.hypot(dx, dz) / 2)
    pos = tuple((a + b) / 2 for a, b in zip(start, end, strict=True))
    quat = mjcf.turn(Y_AXIS, math.atan2(dx, dz))
    if solid:
        part.solid("box", size, pos, quat)
    if material is not None:
        part.draw("box", size, pos, quat, material=material)
