"""Small helpers to write MJCF files: elements, collision and visual geoms, materials, PNG textures.

What is surprising: robosuite keeps only geoms that carry an explicit `group` (0 collides, 1 is drawn), and
compiles with `inertiagrouprange="0 0"`, so in a running LIBERO scene the mass of group 1 geoms is nothing.
Textures are of type `cube`, which MuJoCo wraps around primitives evenly; a `2d` texture is projected along z
and smears on the sides.
"""

import io
import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

Vec = Sequence[float]
Shape = Literal["box", "cylinder", "capsule", "ellipsoid", "sphere", "plane"]
Attribute = str | float | int | Sequence[float] | None

HARD_CONTACT: dict[str, Attribute] = {
    "solref": (0.001, 1),
    "solimp": (0.998, 0.998, 0.001),
}  # LIBERO's free objects
GRIPPY: Vec = (0.95, 0.3, 0.1)  # LIBERO's friction of free objects: sliding, torsional, rolling


def number(value: float) -> str:
    """Formats a number with at most 6 decimals and no trailing zeros, so that files are stable and short."""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def element(parent: ET.Element | None, tag: str, **attributes: Attribute) -> ET.Element:
    """Makes an element, appended to `parent` if there is one.

    Attributes that are None are left out; sequences are written space-separated; a trailing underscore of an
    attribute name is dropped (`class_` writes `class`).
    """
    texts = {key.rstrip("_"): _text(value) for key, value in attributes.items() if value is not None}
    return ET.Element(tag, texts) if parent is None else ET.SubElement(parent, tag, texts)


def visual(
    parent: ET.Element,
    shape: Shape,
    size: Vec,
    pos: Vec = (0, 0, 0),
    *,
    material: str | None = None,
    rgba: Vec | None = None,
    quat: Vec | None = None,
    mass_kg: float = 0.0,
    name: str | None = None,
) -> ET.Element:
    """Adds a geom that is drawn and never touches anything. `size` holds half sizes (m), `quat` is wxyz."""
    return element(
        parent, "geom", name=name, type=shape, size=size, pos=pos, quat=quat, material=material, rgba=rgba,
        mass=mass_kg, group=1, contype=0, conaffinity=0,
    )  # fmt: skip


def collision(
    parent: ET.Element,
    shape: Shape,
    size: Vec,
    pos: Vec = (0, 0, 0),
    *,
    quat: Vec | None = None,
    name: str | None = None,
    **attributes: Attribute,
) -> ET.Element:
    """Adds a geom that collides and is never drawn. `size` holds half sizes (m), `quat` is wxyz.

    Further attributes (mass, friction, solref, contype, ...) are written as they are.
    """
    return element(
        parent, "geom", name=name, type=shape, size=size, pos=pos, quat=quat, group=0, rgba=(1, 1, 1, 0),
        **attributes,
    )  # fmt: skip


def material(
    assets: ET.Element,
    name: str,
    rgba: Vec | None = None,
    *,
    texture_file: str | None = None,
    texrepeat: Vec | None = None,
    texture_type: Literal["cube", "2d"] = "cube",
    specular: float = 0.2,
    shininess: float = 0.2,
    **texture_attributes: Attribute,
) -> str:
    """Adds a matt material, textured if `texture_file` (relative to the XML) is given, and returns its name.

    `texture_attributes` go to the texture, for instance `gridsize` and `gridlayout` of a cube map.
    """
    texture = None
    if texture_file is not None:
        texture = f"tex-{name}"
        element(assets, "texture", name=texture, type=texture_type, file=texture_file, **texture_attributes)
    element(
        assets, "material", name=name, rgba=rgba, texture=texture, texrepeat=texrepeat, reflectance=0,
        specular=specular, shininess=shininess,
    )  # fmt: skip
    return name


def document(root: ET.Element) -> bytes:
    """Returns the file of an element tree: indented, UTF-8, ending in a newline."""
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8") + b"\n"


def png(pixels: npt.NDArray[np.uint8], colors: int = 16) -> bytes:
    """Returns a palette PNG of pixels (height, width, 3) uint8, reduced to at most `colors` colours."""
    image = Image.fromarray(pixels, "RGB").quantize(colors, dither=Image.Dither.NONE)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def turn(axis: Vec, angle_rad: float) -> tuple[float, float, float, float]:
    """Returns the quaternion (wxyz) of a rotation by `angle_rad` about a unit axis."""
    x, y, z = (part * math.sin(angle_rad / 2) for part in axis)
    return (math.cos(angle_rad / 2), x, y, z)


def multiply(left: Vec, right: Vec) -> tuple[float, float, float, float]:
    """Returns the quaternion product (wxyz): first `right`, then `left`."""
    a, b, c, d = left
    e, f, g, h = right
    return (
        a * e - b * f - c * g - d * h,
        a * f + b * e + c * h - d * g,
        a * g - b * h + c * e + d * f,
        a * h + b * g - c * f + d * e,
    )


def _text(value: Attribute) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float | np.number):
        return number(float(value))
    assert value is not None
    return " ".join(number(float(part)) for part in value)
