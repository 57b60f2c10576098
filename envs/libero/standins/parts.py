"""Builds the file of one LIBERO object: its body tree, solid and drawn geoms, materials and masses.

What is surprising: an object has two masses. A plain compile counts all geoms; a running LIBERO scene counts
the solid ones only (see `mjcf`), which makes LIBERO's objects feather-light. `Part.weigh` sets both.
"""

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vega_policy.envs.libero.standins import mjcf
from vega_policy.envs.libero.standins.mjcf import Attribute, Shape, Vec

IDENTITY = (1.0, 0.0, 0.0, 0.0)
UP_IS_Y = mjcf.turn((1, 0, 0), -math.pi / 2)  # LIBERO's cans, bottles and cartons stand along their y axis
HARD_GRIPPY: Mapping[str, Attribute] = {**mjcf.HARD_CONTACT, "friction": mjcf.GRIPPY}
MUJOCO_DEFAULT: Mapping[str, Attribute] = {}

_VOLUMES = {
    "box": lambda size: 8 * size[0] * size[1] * size[2],
    "cylinder": lambda size: 2 * math.pi * size[0] ** 2 * size[1],
    "capsule": lambda size: math.pi * size[0] ** 2 * (2 * size[1] + 4 / 3 * size[0]),
    "ellipsoid": lambda size: 4 / 3 * math.pi * size[0] * size[1] * size[2],
    "sphere": lambda size: 4 / 3 * math.pi * size[0] ** 3,
}


@dataclass(frozen=True)
class Part:
    """A body to which geoms and sites are added, seen from a frame that may be turned and moved within it.

    Attributes:
        element: the MJCF body.
        origin_m: where the frame stands in the body.
        turn: the frame's orientation in the body (wxyz).
        contact: contact attributes of the solid geoms.
    """

    element: ET.Element
    origin_m: Vec = (0.0, 0.0, 0.0)
    turn: Vec = IDENTITY
    contact: Mapping[str, Attribute] = field(default_factory=lambda: HARD_GRIPPY)

    def frame(self, pos: Vec = (0, 0, 0), quat: Vec = IDENTITY) -> "Part":
        """Returns the same body seen from a frame at `pos` (m), turned by `quat`, relative to this one."""
        return Part(self.element, *self._place(pos, quat), self.contact)

    def child(self, name: str, pos: Vec = (0, 0, 0), quat: Vec | None = None) -> "Part":
        """Adds a body inside this one, without a joint."""
        return Part(mjcf.element(self.element, "body", name=name, pos=pos, quat=quat), contact=self.contact)

    def solid(
        self, shape: Shape, size: Vec, pos: Vec = (0, 0, 0), quat: Vec = IDENTITY, name: str | None = None
    ) -> None:
        """Adds a geom that collides and is not drawn; half sizes and position in metres."""
        origin_m, turn = self._place(pos, quat)
        mjcf.collision(
            self.element, shape, size, origin_m, quat=_unless_identity(turn), name=name, **self.contact
        )

    def draw(
        self,
        shape: Shape,
        size: Vec,
        pos: Vec = (0, 0, 0),
        quat: Vec = IDENTITY,
        *,
        material: str,
        name: str | None = None,
    ) -> None:
        """Adds a geom that is drawn and does not collide."""
        origin_m, turn = self._place(pos, quat)
        mjcf.visual(
            self.element, shape, size, origin_m, quat=_unless_identity(turn), material=material, name=name
        )

    def both(
        self, shape: Shape, size: Vec, pos: Vec = (0, 0, 0), quat: Vec = IDENTITY, *, material: str
    ) -> None:
        """Adds the same geom twice: solid and drawn."""
        self.solid(shape, size, pos, quat)
        self.draw(shape, size, pos, quat, material=material)

    def site(
        self, name: str, shape: Shape, size: Vec, pos: Vec, quat: Vec = IDENTITY, rgba: Vec = (0, 0, 0, 0)
    ) -> None:
        """Adds a named site, invisible by default: a region of a BDDL goal."""
        mjcf.element(self.element, "site", name=name, type=shape, size=size, pos=pos, quat=quat, rgba=rgba)

    def joint(self, name: str, kind: str, axis: Vec, range_: Vec, damping: float) -> None:
        """Adds a limited slide (m) or hinge (rad) joint at the body's origin."""
        mjcf.element(
            self.element,
            "joint",
            name=name,
            type=kind,
            axis=axis,
            range=range_,
            limited="true",
            damping=damping,
        )

    def inertial(self, mass_kg: float, inertia_kgm2: Vec) -> None:
        """States the body's mass and diagonal inertia outright, whatever its geoms are."""
        mjcf.element(self.element, "inertial", pos=(0, 0, 0), mass=mass_kg, diaginertia=inertia_kgm2)

    def weigh(self, solid_kg: float, total_kg: float | None = None) -> None:
        """Spreads `solid_kg` over the solid geoms and the rest of `total_kg` over the drawn, by volume."""
        _spread(self._geoms(group="0"), solid_kg)
        if total_kg is not None:
            _spread(self._geoms(group="1"), total_kg - solid_kg)

    def _geoms(self, group: str) -> list[ET.Element]:
        return [geom for geom in self.element.findall("geom") if geom.get("group") == group]

    def _place(self, pos: Vec, quat: Vec) -> tuple[Vec, Vec]:
        moved = np.asarray(self.origin_m) + _rotation(self.turn) @ np.asarray(pos, dtype=float)
        return tuple(moved.tolist()), mjcf.multiply(self.turn, quat)


class ObjectFile:
    """The MJCF file of one object, as robosuite's `MujocoXMLObject` reads it.

    Args:
        name: LIBERO's name of the object type.
        bottom_m: height of `bottom_site`, from which LIBERO's samplers work out how high to place the object.
        top_m: height of `top_site`.
        radius_m: both horizontal coordinates of `horizontal_radius_site`.
        pos: default position of the body `object`.
        contact: contact attributes of the solid geoms.
    """

    def __init__(
        self,
        name: str,
        bottom_m: float = -0.06,
        top_m: float = 0.04,
        radius_m: float = 0.025,
        pos: Vec | None = None,
        contact: Mapping[str, Attribute] = HARD_GRIPPY,
    ) -> None:
        self.name = name
        self.textures: dict[str, bytes] = {}
        self._root = mjcf.element(None, "mujoco", model=name)
        mjcf.element(self._root, "compiler", angle="radian")
        self._assets = mjcf.element(self._root, "asset")
        outer = mjcf.element(mjcf.element(self._root, "worldbody"), "body")
        self.body = Part(mjcf.element(outer, "body", name="object", pos=pos), contact=contact)
        for site, place in (
            ("bottom_site", (0, 0, bottom_m)),
            ("top_site", (0, 0, top_m)),
            ("horizontal_radius_site", (radius_m, radius_m, 0)),
        ):
            Part(outer).site(site, "sphere", (0.005,), place)

    def color(self, name: str, *rgb: float, shine: float = 0.2, alpha: float = 1.0) -> str:
        """Adds a plain matt material and returns its name, made unique by the object's."""
        return mjcf.material(
            self._assets, f"{self.name}-{name}", (*rgb, alpha), specular=shine, shininess=shine
        )

    def texture(self, name: str, pixels: npt.NDArray[np.uint8], repeat: float | None = None) -> str:
        """Adds a material that shows `pixels` on a box and returns its name.

        Args:
            name: of the material and of the PNG file.
            pixels: (side, side, 3) for the same picture on each face, or the stack of `textures.faces`.
            repeat: how often the picture repeats along each face.
        """
        self.textures[f"{name}.png"] = mjcf.png(pixels)
        by_face = pixels.shape[0] > pixels.shape[1]
        return mjcf.material(
            self._assets,
            f"{self.name}-{name}",
            texture_file=f"{name}.png",
            texrepeat=None if repeat is None else (repeat, repeat),
            gridsize=(6, 1) if by_face else None,
            gridlayout="RLUDFB" if by_face else None,
        )

    def files(self, folder: str, subfolder: bool = True) -> dict[str, bytes]:
        """Returns the object's files by their path inside the assets folder.

        With `subfolder` they lie in `folder/name/`, as LIBERO's free objects do; without it the XML lies in
        `folder` and the textures in `folder/name/`, as LIBERO's articulated objects do.
        """
        home = f"{folder}/{self.name}"
        if not subfolder:
            for texture in self._assets.iter("texture"):
                texture.set("file", f"{self.name}/{texture.get('file')}")
        xml = f"{home}/{self.name}.xml" if subfolder else f"{home}.xml"
        return {xml: mjcf.document(self._root)} | {
            f"{home}/{file}": data for file, data in self.textures.items()
        }


def _spread(geoms: list[ET.Element], mass_kg: float) -> None:
    volumes = [
        _VOLUMES[geom.get("type", "")]([float(part) for part in geom.get("size", "").split()])
        for geom in geoms
    ]
    for geom, volume in zip(geoms, volumes, strict=True):
        geom.set("mass", f"{mass_kg * volume / sum(volumes):.9f}")


def _rotation(quat: Vec) -> npt.NDArray[np.float64]:
    w, x, y, z = quat
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _unless_identity(quat: Vec) -> Vec | None:
    return None if abs(quat[0]) > 1 - 1e-12 else quat
