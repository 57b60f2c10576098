"""Floors, walls and table tops of the arenas: small tileable pictures, named as LIBERO's styles name them.

What is surprising: everything is integer arithmetic on seeded integers until the last division, so the
files are the same on every machine; and no picture has more than 16 colours, which keeps each at a few KB.
"""

import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from vega_policy.envs.libero.standins.mjcf import png

Field = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
Color = tuple[int, int, int]

SIZE_PX = 128
STEPS = 12


def files() -> dict[str, bytes]:
    """Returns every texture of the arenas: path in the assets folder -> PNG file."""
    return {f"textures/{name}": png(draw()) for name, draw in SURFACES.items()}


def noise(name: str, grain_px: tuple[int, int]) -> Field:
    """Draws tileable noise in [0, 1], smooth over `grain_px` (rows, columns), seeded by its name."""
    field = _generator(name).integers(0, 256, (SIZE_PX, SIZE_PX))
    for axis, width_px in enumerate(grain_px):
        for _ in range(2):
            field = sum((np.roll(field, shift, axis) for shift in range(width_px)), np.zeros_like(field))
    low, high = field.min(), field.max()
    return (field - low) / (high - low)


def shade(field: Field, dark: Color, light: Color) -> Pixels:
    """Maps [0, 1] to a ramp of a few steps between two colours."""
    steps = np.minimum((field * STEPS).astype(np.int64), STEPS - 1)
    return np.linspace(dark, light, STEPS).round().astype(np.uint8)[steps]


def plaster(name: str, dark: Color, light: Color) -> Pixels:
    """A wall with soft, cloudy unevenness."""
    return shade((noise(name, (14, 14)) + noise(name + " fine", (3, 3))) / 2, dark, light)


def linen(name: str, dark: Color, light: Color) -> Pixels:
    """A woven wall covering: threads along both axes."""
    return shade((noise(name + " warp", (40, 1)) + noise(name + " weft", (1, 40))) / 2, dark, light)


def wood(name: str, dark: Color, light: Color) -> Pixels:
    """Grain that runs along the columns of the picture."""
    return shade((3 * noise(name, (48, 3)) + noise(name + " figure", (60, 14))) / 4, dark, light)


def planks(name: str, dark: Color, light: Color, gap: Color) -> Pixels:
    """Four boards side by side, butted at different places."""
    pixels = wood(name, dark, light)
    width_px = SIZE_PX // 4
    for board in range(4):
        columns = slice(board * width_px, (board + 1) * width_px)
        pixels[:, columns] = np.roll(pixels[:, columns], 37 * board, axis=0)
        pixels[(50 * board + 20) % SIZE_PX, columns] = gap
        pixels[:, board * width_px] = gap
    return pixels


def tiles(name: str, dark: Color, light: Color, joint: Color) -> Pixels:
    """Four square tiles, each of its own tone, in joints two pixels wide."""
    side_px = SIZE_PX // 2
    tone = np.kron(_generator(name + " tone").integers(0, 100, (2, 2)) / 100, np.ones((side_px, side_px)))
    pixels = shade((tone + 2 * noise(name, (9, 9))) / 3, dark, light)
    for edge_px in (0, side_px):
        pixels[edge_px : edge_px + 2] = joint
        pixels[:, edge_px : edge_px + 2] = joint
    return pixels


def _generator(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


SURFACES: dict[str, Callable[[], Pixels]] = {
    # Floors, under the file names of LIBERO's floor styles.
    "light-gray-floor-tile.png": lambda: tiles("tile", (168, 165, 160), (196, 193, 188), (142, 140, 136)),
    "gray_ceramic_tile.png": lambda: tiles("ceramic", (176, 164, 148), (206, 196, 182), (150, 140, 128)),
    "seamless_wood_planks_floor.png": lambda: planks("plank", (168, 130, 84), (204, 170, 120), (132, 98, 60)),
    # Walls, under the file names of LIBERO's wall styles.
    "light-gray-plaster.png": lambda: plaster("plaster", (200, 199, 195), (214, 213, 209)),
    "yellow_linen_wall_texture.png": lambda: linen("linen", (208, 194, 148), (226, 214, 172)),
    # Table tops, under names of our own.
    "table_birch.png": lambda: wood("birch", (190, 160, 124), (218, 194, 160)),
    "table_oak.png": lambda: wood("oak", (142, 98, 56), (176, 132, 82)),
    "table_walnut.png": lambda: wood("walnut", (78, 48, 34), (112, 74, 54)),
}
