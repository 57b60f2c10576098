"""Low-poly visuals for robosuite's Panda, its gripper and its mount, applied to a composed MJCF string.

Of the 209,000 mesh faces LIBERO draws per image, 168,000 are the robot's. Here each visible mesh gives way
to the coarse mesh its body collides with (200 to 300 faces, already in the model) plus a few primitives for
what is dark on a Panda. What is surprising: robosuite looks visual geoms up by name after compiling, so
every one of them stays in the model under its name and in its place; those nothing is drawn for are merely
put into a group no renderer shows. Collision geoms, inertias, sites, cameras and the order of all elements
are untouched, hence simulator states are bit for bit those of the original robot.

The hook is robosuite's XML processor. It must be set before `_initialize_sim` first runs, which is inside the
constructor, so a subclass sets it there: `self.set_xml_processor(lowpoly_xml)`.
"""

import re
from collections.abc import Iterator
from itertools import zip_longest
from xml.etree import ElementTree

Geom = dict[str, str]

WHITE = "0.86 0.87 0.88 1"
SILVER = "0.7 0.72 0.74 1"
GRAY = "0.45 0.46 0.48 1"
BLACK = "0.13 0.13 0.14 1"

HIDDEN: Geom = {"type": "sphere", "size": "0.001", "group": "5"}
VISUAL: Geom = {"contype": "0", "conaffinity": "0", "group": "1"}
# No light casts shadows, so a shadow map would be idle memory; multisampling would double a picture's cost.
QUALITY = {"shadowsize": "0", "offsamples": "0", "numslices": "20", "numstacks": "8", "numquads": "1"}


def _shell(mesh: str, rgba: str, quat: str = "1 0 0 0") -> Geom:
    """One of the coarse meshes robosuite brings for collisions, drawn in one colour."""
    return {"type": "mesh", "mesh": mesh, "rgba": rgba, "quat": quat}


def _rod(radius_m: float, start: str, end: str, rgba: str) -> Geom:
    """A cylinder between two points of the body frame (m)."""
    return {"type": "cylinder", "size": f"{radius_m}", "fromto": f"{start} {end}", "rgba": rgba}


def _box(center: str, half_size: str, rgba: str) -> Geom:
    """A box aligned with the body frame (m)."""
    return {"type": "box", "pos": center, "size": half_size, "rgba": rgba}


# Shapes per body, in the body's own frame, where robosuite's meshes have them. Link7 has a coarse mesh but
# no geom that collides.
PARTS: dict[str, tuple[Geom, ...]] = {
    "link0": (_shell("link0", WHITE), _box("-0.145 0 0.06", "0.012 0.03 0.025", BLACK)),
    "link1": (
        _rod(0.055, "0 0 -0.192", "0 0 0", WHITE),
        _rod(0.055, "0 -0.129 0", "0 0 0", WHITE),
        {"type": "sphere", "size": "0.055", "rgba": WHITE},
    ),
    "link2": (_shell("link2", WHITE),),
    "link3": (_shell("link3", WHITE), _rod(0.05, "0.0825 0.1 0", "0.0825 0.1125 0", BLACK)),
    "link4": (_shell("link4", WHITE), _rod(0.05, "0 0 0.1", "0 0 0.1125", BLACK)),
    "link5": (_shell("link5", WHITE), _box("0 0.112 -0.08", "0.044 0.02 0.1", BLACK)),
    "link6": (
        _shell("link6", WHITE),
        _rod(0.042, "0 0 0.05", "0 0 0.058", BLACK),
        _rod(0.033, "0.088 0.06 0", "0.088 0.083 0", BLACK),
    ),
    "link7": (_shell("link7", WHITE), _rod(0.045, "0 0 0.085", "0 0 0.107", SILVER)),
    "right_gripper": (_shell("hand", WHITE, quat="0.707107 0 0 0.707107"),),
    "leftfinger": (_shell("finger", GRAY), _box("0 0.005 0.046", "0.011 0.0055 0.009", BLACK)),
    "rightfinger": (
        _shell("finger", GRAY, quat="0 0 0 1"),
        _box("0 -0.005 0.046", "0.011 0.0055 0.009", BLACK),
    ),
    "pedestal": (
        _rod(0.19, "-0.02 0 -0.035", "-0.02 0 -0.002", BLACK),
        _rod(0.09, "-0.02 0 -0.9", "-0.02 0 -0.035", BLACK),
        _box("-0.1225 0 -0.9", "0.385 0.34 0.02", BLACK),
        _box("-0.325 0 -0.62", "0.11 0.2 0.26", BLACK),
    ),
}


def lowpoly_xml(xml: str) -> str:
    """Replace the visual meshes of the Panda, its gripper and its mount in a composed robosuite model.

    Args:
        xml: A complete MJCF model as `model.get_xml()` returns it, with any number of Pandas.

    Returns:
        The model with the same bodies, joints, collision geoms, sites and cameras, in the same order and
        under the same names; meshes and materials that nothing refers to any more are left out, and MuJoCo
        draws primitives with fewer facets, without a shadow map and without multisampling.

    Raises:
        ValueError: No body of a Panda is in the model.
    """
    root = ElementTree.fromstring(xml)
    bodies = list(_robot_bodies(root))
    if not bodies:
        raise ValueError(
            "expected a model that holds robosuite's Panda (bodies named robot0_link0, robot0_link1, ...), "
            "found none; pass the composed XML of the whole task, not a part of it"
        )
    for body, prefix, parts in bodies:
        _redraw(body, prefix, parts)
    _drop_unused_assets(root)
    visual = root.find("visual")
    if visual is None:
        visual = ElementTree.SubElement(root, "visual")
    ElementTree.SubElement(visual, "quality", QUALITY)
    return ElementTree.tostring(root, encoding="unicode")


def _robot_bodies(root: ElementTree.Element) -> Iterator[tuple[ElementTree.Element, str, tuple[Geom, ...]]]:
    """Every body with parts, with the prefix robosuite gave its model ("robot0_")."""
    for body in root.iter("body"):
        match = re.fullmatch(r"((?:robot|gripper|mount)\d+_)(\w+)", body.get("name", ""))
        if match and match[2] in PARTS:
            yield body, match[1], PARTS[match[2]]


def _redraw(body: ElementTree.Element, prefix: str, parts: tuple[Geom, ...]) -> None:
    """Turns the visual meshes of a body into its parts, hides those left over, adds geoms that are short."""
    seen = [geom for geom in body.findall("geom") if geom.get("group") == "1" and geom.get("type") == "mesh"]
    after = list(body).index(seen[-1]) + 1
    for geom, part in zip_longest(seen, parts):
        attributes = VISUAL | (part or HIDDEN)
        if "mesh" in attributes:
            attributes["mesh"] = prefix + attributes["mesh"]
        if geom is None:
            body.insert(after, ElementTree.Element("geom", attributes))
        else:
            name = geom.attrib["name"]
            geom.attrib.clear()
            geom.attrib.update({"name": name} | attributes)


def _drop_unused_assets(root: ElementTree.Element) -> None:
    """Leaves out what only the replaced geoms needed; reading it takes longer than all the rest."""
    assets = root.find("asset")
    assert assets is not None
    for kind in ("mesh", "material"):
        used = {element.get(kind) for element in root.iter() if element.tag in ("geom", "site")}
        for asset in assets.findall(kind):
            if asset.get("name") not in used:
                assets.remove(asset)
