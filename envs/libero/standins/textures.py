"""Small generated pictures: wood grain, woven straw, product labels with a line of text.

Everything is computed from a few numbers; pictures are the same on every machine.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Color = Sequence[int]

# A 3 x 5 pixel alphabet: five rows per letter, each an octal digit of three pixels.
_ALPHABET = """
A25755 B65656 C34443 D65556 E74647 F74644 G34553 H55755 I72227 J11152 K55655 L44447 M57755
N65555 O25552 P65644 Q25563 R65655 S34216 T72222 U55557 V55552 W55775 X55255 Y55222 Z71247
"""
_LETTERS = {glyph[0]: glyph[1:] for glyph in _ALPHABET.split()}


def label(text: str, background: Color, ink: Color, *, band: Color | None = None, side: int = 64) -> Pixels:
    """Returns a square (side, side, 3) with lines of capital letters as wide as fits, over a coloured band.

    `text` may hold several lines; `band` colours the lower third.
    """
    pixels = plain(background, side)
    if band is not None:
        pixels[side * 2 // 3 :] = band
    lines = text.split("\n")
    scale = (side - 4) // max(4 * max(map(len, lines)) - 1, 6 * len(lines) - 1)
    top = (side * (2 if band is not None else 3) // 3 - scale * (6 * len(lines) - 1)) // 2
    for row, line in enumerate(lines):
        mask = np.kron(_bits(line), np.ones((scale, scale), dtype=bool))
        y, x = max(top, 1) + 6 * scale * row, (side - mask.shape[1]) // 2
        pixels[y : y + mask.shape[0], x : x + mask.shape[1]][mask] = ink
    return pixels


def plain(color: Color, side: int = 64) -> Pixels:
    """Returns a square (side, side, 3) of one colour."""
    return np.full((side, side, 3), color, dtype=np.uint8)


def checks(first: Color, second: Color, *, side: int = 64, count: int = 8) -> Pixels:
    """Returns a square (side, side, 3) chequered `count` by `count`."""
    row, column = np.indices((side, side)) * count // side
    return np.where(((row + column) % 2 == 0)[..., None], first, second).astype(np.uint8)


def stripes(colors: Sequence[Color], *, side: int = 64) -> Pixels:
    """Returns a square (side, side, 3) of equally high horizontal stripes, first on top."""
    return np.asarray(colors, dtype=np.uint8)[np.arange(side) * len(colors) // side][:, None].repeat(
        side, axis=1
    )


def faces(*, x: Pixels, y: Pixels, z: Pixels) -> Pixels:
    """Stacks the pictures of a box's faces as +x -x +y -y +z -z, (6 side, side, 3).

    Opposite faces look the same. MuJoCo's cube map turns each face differently; here the sides are turned to
    stand upright when z points up, and the top to read upright when seen from -y.
    """
    return np.concatenate([np.rot90(x), np.rot90(x, -1), np.rot90(y, 2), y, z, z])


def wood(color: Color, *, side: int = 32, planks: int = 2, seed: int = 0) -> Pixels:
    """Returns a square (side, side, 3) of planks with grain along the columns."""
    rng = np.random.default_rng(seed)
    column = np.arange(side)
    grain = 0.06 * np.sin(2 * math.pi * (column * 3 / side + rng.random()))
    grain = grain + 0.05 * rng.standard_normal(side)
    shade = 1 + np.repeat(grain[None, :], side, axis=0) + 0.02 * rng.standard_normal((side, side))
    plank = np.repeat(0.06 * rng.standard_normal(planks), math.ceil(side / planks))[:side]
    shade = shade + plank[None, :]
    shade[:, :: math.ceil(side / planks)] -= 0.15
    return _shaded(color, shade)


def weave(color: Color, *, side: int = 32, strand: int = 4) -> Pixels:
    """Returns a square (side, side, 3) of woven straw."""
    row, column = np.indices((side, side))
    over = ((row // strand) + (column // strand)) % 2
    edge = np.where(over == 0, row % strand, column % strand) == 0
    return _shaded(color, 1.0 - 0.18 * over - 0.3 * edge)


def _bits(line: str) -> npt.NDArray[np.bool_]:
    rows = ["0".join(f"{int(_LETTERS[letter][row]):03b}" for letter in line) for row in range(5)]
    return np.array([[pixel == "1" for pixel in row] for row in rows])


def _shaded(color: Color, shade: npt.NDArray[np.float64]) -> Pixels:
    return np.clip(np.asarray(color)[None, None, :] * shade[..., None], 0, 255).astype(np.uint8)
