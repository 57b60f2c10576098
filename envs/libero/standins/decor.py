"""What stands behind the robot in each arena: furniture that is only drawn, from boxes and other primitives.

The pieces fill the places LIBERO's do (against the rear wall at x = -2 m), so views have the same layout;
their looks are our own. Nothing here collides. Lengths are metres in the world frame, +y is the robot's
left.
"""

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from vega_policy.envs.libero.standins.mjcf import material, multiply, turn, visual

Color = Sequence[float]

OFF_WHITE = (0.9, 0.89, 0.86, 1)
CREAM = (0.86, 0.83, 0.76, 1)
STONE = (0.27, 0.28, 0.3, 1)
STEEL = (0.66, 0.68, 0.7, 1)
INK = (0.1, 0.1, 0.11, 1)
WALNUT = (0.4, 0.27, 0.19, 1)
SAGE = (0.48, 0.56, 0.48, 1)
BOOKS = (
    (0.56, 0.22, 0.2, 1),
    (0.2, 0.32, 0.46, 1),
    (0.8, 0.66, 0.36, 1),
    (0.26, 0.42, 0.36, 1),
    (0.85, 0.83, 0.78, 1),
)


def block(world: ET.Element, low: Sequence[float], high: Sequence[float], rgba: Color) -> None:
    """Adds a box between two opposite corners."""
    size = [(b - a) / 2 for a, b in zip(low, high, strict=True)]
    pos = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
    visual(world, "box", size, pos, rgba=rgba)


def skirting(world: ET.Element) -> None:
    """Adds a skirting board along the rear wall and the side walls."""
    block(world, (-1.99, -2.99, 0), (-1.97, 2.99, 0.09), OFF_WHITE)
    for y_m in (-2.99, 2.97):
        block(world, (-1.99, y_m, 0), (2.99, y_m + 0.02, 0.09), OFF_WHITE)


def kitchen(assets: ET.Element, world: ET.Element) -> None:
    """Adds a kitchen line: base and wall cabinets, worktop, tiled splash-back, hob, pots, fridge."""
    block(world, (-1.97, -1.8, 0), (-1.42, 1.8, 0.08), STONE)
    block(world, (-1.97, -1.8, 0.08), (-1.38, 1.8, 0.87), CREAM)
    block(world, (-1.97, -1.8, 0.87), (-1.34, 1.8, 0.91), STONE)
    for door in range(6):
        left_m = -1.78 + 0.6 * door
        block(world, (-1.38, left_m, 0.11), (-1.365, left_m + 0.56, 0.66), OFF_WHITE)
        block(world, (-1.38, left_m, 0.69), (-1.365, left_m + 0.56, 0.84), OFF_WHITE)
        block(world, (-1.365, left_m + 0.2, 0.755), (-1.345, left_m + 0.36, 0.77), STEEL)
        block(world, (-1.365, left_m + 0.2, 0.6), (-1.345, left_m + 0.36, 0.615), STEEL)
        block(world, (-1.97, left_m, 1.55), (-1.63, left_m + 0.56, 2.3), OFF_WHITE)
    material(assets, "splash_back", texture_file="../textures/gray_ceramic_tile.png", specular=0.1)
    visual(world, "box", (0.01, 1.8, 0.32), (-1.96, 0, 1.23), material="splash_back")
    _hob(world)
    _pot(world, (-1.6, 0.26, 0.93), 0.1)
    _pot(world, (-1.66, -0.86, 0.91), 0.13)
    _fridge(world)


def _hob(world: ET.Element) -> None:
    block(world, (-1.92, -0.4, 0.91), (-1.38, 0.4, 0.92), INK)
    for x_m in (-1.78, -1.52):
        for y_m in (-0.22, 0.22):
            visual(world, "cylinder", (0.09, 0.004), (x_m, y_m, 0.922), rgba=STEEL)


def _pot(world: ET.Element, pos: Sequence[float], radius_m: float) -> None:
    x_m, y_m, z_m = pos
    visual(world, "cylinder", (radius_m, 0.06), (x_m, y_m, z_m + 0.06), rgba=SAGE)
    visual(world, "ellipsoid", (radius_m, radius_m, 0.03), (x_m, y_m, z_m + 0.12), rgba=STEEL)
    visual(world, "sphere", (0.018,), (x_m, y_m, z_m + 0.16), rgba=INK)
    visual(
        world, "capsule", (0.012, radius_m), (x_m, y_m, z_m + 0.09), rgba=INK, quat=turn((1, 0, 0), 1.570796)
    )


def _fridge(world: ET.Element) -> None:
    block(world, (-1.97, -2.84, 0), (-1.55, -1.97, 1.78), STEEL)
    for low_m, high_m in ((0.05, 1.1), (1.13, 1.75)):
        block(world, (-1.55, -2.82, low_m), (-1.53, -1.99, high_m), (0.74, 0.76, 0.78, 1))
        block(world, (-1.53, -2.08, low_m + 0.12), (-1.5, -2.05, high_m - 0.12), STONE)


def living_room(assets: ET.Element, world: ET.Element) -> None:
    """Adds a wall unit with a screen and books, and a picture; the side walls stay bare."""
    material(assets, "unit_wood", texture_file="../textures/table_walnut.png", specular=0.1)
    visual(world, "box", (0.19, 1.17, 0.2), (-1.72, 0, 0.25), material="unit_wood")
    for left_m in (-1.14, -0.37, 0.4):
        block(world, (-1.53, left_m, 0.09), (-1.515, left_m + 0.74, 0.42), CREAM)
        block(world, (-1.515, left_m + 0.3, 0.37), (-1.5, left_m + 0.44, 0.385), STEEL)
    block(world, (-1.9, -0.62, 0.62), (-1.86, 0.62, 1.34), INK)
    block(world, (-1.86, -0.59, 0.65), (-1.857, 0.59, 1.31), (0.17, 0.2, 0.25, 1))
    block(world, (-1.88, -0.12, 0.45), (-1.84, 0.12, 0.62), INK)
    for left_m in (-1.17, 0.77):
        for height_m in (0.8, 1.15, 1.5):
            block(world, (-1.98, left_m, height_m), (-1.72, left_m + 0.4, height_m + 0.03), WALNUT)
            _books(world, (-1.95, left_m + 0.04, height_m + 0.03), 5)
    block(world, (-1.98, 1.4, 0.95), (-1.95, 2.2, 1.75), WALNUT)
    block(world, (-1.95, 1.44, 0.99), (-1.945, 2.16, 1.71), CREAM)
    block(world, (-1.945, 1.6, 1.1), (-1.94, 2.0, 1.5), (0.72, 0.38, 0.28, 1))
    skirting(world)


def study(world: ET.Element) -> None:
    """Adds a bookshelf, a plant, a painting and a desk lamp."""
    _bookshelf(world)
    _plant(world)
    block(world, (-1.98, 0.02, 1.0), (-1.95, 0.98, 1.98), WALNUT)
    block(world, (-1.95, 0.05, 1.03), (-1.945, 0.95, 1.95), (0.86, 0.7, 0.28, 1))
    block(world, (-1.945, 0.05, 1.03), (-1.94, 0.42, 1.6), (0.24, 0.4, 0.52, 1))
    block(world, (-1.945, 0.42, 1.03), (-1.94, 0.7, 1.3), (0.7, 0.3, 0.24, 1))
    _desk_lamp(world)
    skirting(world)


def _bookshelf(world: ET.Element) -> None:
    for y_m in (-1.6, -0.41):
        block(world, (-1.9, y_m, 0), (-1.58, y_m + 0.03, 1.8), OFF_WHITE)
    for shelf in range(6):
        height_m = 0.02 + 0.35 * shelf
        block(world, (-1.9, -1.57, height_m), (-1.58, -0.41, height_m + 0.03), OFF_WHITE)
        if shelf < 5:
            _books(world, (-1.86, -1.5 + 0.25 * (shelf % 3), height_m + 0.03), 8)


def _books(world: ET.Element, corner: Sequence[float], count: int) -> None:
    """Stands books of varying height and colour in a row along +y from a corner."""
    x_m, y_m, z_m = corner
    for book in range(count):
        thickness_m, height_m = 0.03 + 0.008 * (book * 5 % 3), 0.19 + 0.02 * (book * 7 % 4)
        color = BOOKS[(book * 3 + int(z_m * 10)) % len(BOOKS)]
        block(world, (x_m, y_m, z_m), (x_m + 0.16, y_m + thickness_m, z_m + height_m), color)
        y_m += thickness_m + 0.004


def _plant(world: ET.Element) -> None:
    visual(world, "cylinder", (0.14, 0.17), (-1.75, 0.56, 0.17), rgba=CREAM)
    visual(world, "cylinder", (0.125, 0.01), (-1.75, 0.56, 0.335), rgba=WALNUT)
    for leaf in range(9):
        lean_rad, turn_rad, half_m = 0.25 + 0.12 * (leaf % 3), 0.7 * leaf, 0.42 + 0.05 * (leaf % 2)
        out_m = half_m * math.sin(lean_rad)
        pos = (
            -1.75 + out_m * math.cos(turn_rad),
            0.56 + out_m * math.sin(turn_rad),
            0.34 + half_m * math.cos(lean_rad),
        )
        quat = multiply(turn((0, 0, 1), turn_rad), turn((0, 1, 0), lean_rad))
        green = (0.2, 0.36 + 0.03 * (leaf % 4), 0.2, 1)
        visual(world, "ellipsoid", (0.012, 0.045, half_m), pos, quat=quat, rgba=green)


def _desk_lamp(world: ET.Element) -> None:
    visual(world, "cylinder", (0.09, 0.012), (0.3, -0.78, 0.897), rgba=INK)
    visual(world, "capsule", (0.01, 0.3), (0.3, -0.78, 1.2), rgba=INK)
    visual(world, "capsule", (0.01, 0.2), (0.3, -0.6, 1.54), rgba=INK, quat=turn((1, 0, 0), 1.3))
    visual(world, "ellipsoid", (0.1, 0.1, 0.06), (0.3, -0.36, 1.56), rgba=SAGE)
