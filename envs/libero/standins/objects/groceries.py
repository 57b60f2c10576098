"""Cans and bottles: solid many-sided prisms and boxes, drawn as coloured cylinders and ellipsoids."""

from vega_policy.envs.libero.standins.mjcf import Vec
from vega_policy.envs.libero.standins.parts import UP_IS_Y, ObjectFile, Part
from vega_policy.envs.libero.standins.shapes import prism

HOPE = "stable_hope_objects"
Rgb = tuple[float, float, float]


def files() -> dict[str, bytes]:
    """Returns the files of all cans and bottles by their path inside the assets folder."""
    return cans() | ketchup() | dressings() | bbq_sauce()


def cans() -> dict[str, bytes]:
    """Two cans of the same size: blue and yellow alphabet soup, red and green tomato sauce."""
    soup, sauce = ObjectFile("alphabet_soup", bottom_m=-0.04), ObjectFile("tomato_sauce")
    blue, yellow, cream = (0.13, 0.38, 0.78), (0.98, 0.78, 0.12), (0.95, 0.93, 0.88)
    red, green = (0.78, 0.10, 0.08), (0.10, 0.45, 0.16)
    return _can(soup, 0.02585, 0.0537, blue, yellow, cream) | _can(sauce, 0.02663, 0.0545, red, green, cream)


def ketchup() -> dict[str, bytes]:
    """A squeezable red bottle with a white cap and label."""
    bottle = ObjectFile("ketchup")
    red, cap = bottle.color("red", 0.80, 0.12, 0.05, shine=0.5), bottle.color("cap", 0.95, 0.95, 0.93)
    tag, leaf = bottle.color("label", 0.97, 0.90, 0.72), bottle.color("leaf", 0.12, 0.42, 0.14)
    part = bottle.body.frame((0.0004, 0, 0.0008), UP_IS_Y)
    part.solid("box", (0.0281, 0.0170, 0.0331), (0, 0, -0.0394))
    part.solid("box", (0.0239, 0.0113, 0.0183), (0, 0, 0.0037))
    part.solid("box", (0.0187, 0.0113, 0.0183), (0, 0, 0.0251))
    prism(part, 0.0176, 0.0185, (0, 0, 0.0547), sides=8)
    _flask(part, red, waist_m=(0.0285, 0.0185), neck_m=(0.0165, 0.0125))
    part.draw("cylinder", (0.0158, 0.0185), (0, 0, 0.0547), material=cap)
    _front_labels(part, tag, leaf, 0.0188)
    bottle.body.weigh(0.02322, 0.0493)
    return bottle.files(HOPE)


def dressings() -> dict[str, bytes]:
    """Ranch dressing, white with a green cap, twice: LIBERO has a second one whose origin sits 5 cm lower.

    The second has its geoms in an inner body (LIBERO's own spelling) beneath the one that moves freely.
    """
    first, second = ObjectFile("salad_dressing"), ObjectFile("new_salad_dressing")
    inner = second.body.child("sald_dressing_body", (0, 0.05, 0))
    return _dressing(first, first.body) | _dressing(second, inner)


def bbq_sauce() -> dict[str, bytes]:
    """A flat brown bottle with a dark cap; unlike the others it is modelled along z."""
    bottle = ObjectFile("bbq_sauce", top_m=0.06, radius_m=0.015)
    brown, cap = bottle.color("brown", 0.28, 0.11, 0.05, shine=0.5), bottle.color("cap", 0.83, 0.36, 0.10)
    tag, flame = bottle.color("label", 0.93, 0.80, 0.45), bottle.color("flame", 0.75, 0.12, 0.05)
    part = bottle.body
    part.solid("box", (0.0235, 0.0145, 0.0268), (0, 0, -0.0278))
    part.solid("box", (0.0181, 0.0143, 0.0146), (0, 0, 0.0123))
    part.solid("box", (0.0131, 0.0134, 0.0134), (0, 0, 0.0391))
    part.draw("box", (0.0225, 0.0135, 0.0268), (0, 0, -0.0278), material=brown)
    part.draw("ellipsoid", (0.0222, 0.0140, 0.0290), (0, 0, 0.0010), material=brown)
    part.draw("cylinder", (0.0105, 0.0100), (0, 0, 0.0300), material=brown)
    part.draw("cylinder", (0.0128, 0.0085), (0, 0, 0.0440), material=cap)
    part.draw("box", (0.0185, 0.0143, 0.0165), (0, 0, -0.0280), material=tag)
    part.draw("box", (0.0100, 0.0146, 0.0080), (0, 0, -0.0280), material=flame)
    part.weigh(0.01218, 0.0241)
    return bottle.files(HOPE)


def _can(
    can: ObjectFile, solid_kg: float, total_kg: float, label: Rgb, band: Rgb, badge: Rgb
) -> dict[str, bytes]:
    steel = can.color("steel", 0.72, 0.72, 0.74, shine=0.6)
    paper, stripe, patch = can.color("label", *label), can.color("band", *band), can.color("badge", *badge)
    part = can.body.frame((0, -0.0005, -0.0036), UP_IS_Y)
    prism(part, 0.0316, 0.0379)
    part.draw("cylinder", (0.0308, 0.0379), material=steel)
    part.draw("cylinder", (0.0318, 0.0335), material=paper)
    part.draw("cylinder", (0.0321, 0.0080), (0, 0, -0.0190), material=stripe)
    for size in ((0.0319, 0.0075, 0.0100), (0.0075, 0.0319, 0.0100)):
        part.draw("box", size, (0, 0, 0.0110), material=patch)
    can.body.weigh(solid_kg, total_kg)
    return can.files(HOPE)


def _dressing(bottle: ObjectFile, body: Part) -> dict[str, bytes]:
    white, cap = bottle.color("white", 0.93, 0.93, 0.90, shine=0.5), bottle.color("cap", 0.08, 0.48, 0.22)
    tag, leaf = bottle.color("label", 0.80, 0.88, 0.60), bottle.color("leaf", 0.16, 0.50, 0.20)
    part = body.frame((-0.0008, 0, 0.0002), UP_IS_Y)
    part.solid("box", (0.0173, 0.0173, 0.0032), (0, 0, -0.0695))
    part.solid("box", (0.0222, 0.0173, 0.0056), (0, 0, -0.0608))
    part.solid("box", (0.0264, 0.0173, 0.0225), (0, 0, -0.0329))
    part.solid("box", (0.0229, 0.0173, 0.0060), (0, 0, -0.0045))
    part.solid("box", (0.0171, 0.0165, 0.0060), (0, 0, 0.0073))
    part.solid("box", (0.0149, 0.0129, 0.0120), (0, 0, 0.0240))
    prism(part, 0.0176, 0.0186, (0, 0, 0.0542), sides=8)
    _flask(part, white, waist_m=(0.0268, 0.0185), neck_m=(0.0155, 0.0135))
    part.draw("cylinder", (0.0158, 0.0186), (0, 0, 0.0542), material=cap)
    _front_labels(part, tag, leaf, 0.0188)
    body.weigh(0.02178, 0.0449)
    return bottle.files(HOPE)


def _flask(part: Part, material: str, waist_m: Vec, neck_m: Vec) -> None:
    """Draws a bottle's flat belly, shoulders and neck, from 7.2 cm below to 3.7 cm above the middle."""
    part.draw("box", (waist_m[0] * 0.95, waist_m[1] * 0.95, 0.0290), (0, 0, -0.0434), material=material)
    part.draw("ellipsoid", (waist_m[0], waist_m[1], 0.0350), (0, 0, -0.0144), material=material)
    part.draw("ellipsoid", (neck_m[0] * 1.15, neck_m[1] * 1.15, 0.0450), (0, 0, 0.0130), material=material)


def _front_labels(part: Part, tag: str, leaf: str, depth_m: float) -> None:
    """Draws a label on the front and back, with a green mark."""
    part.draw("box", (0.0185, depth_m, 0.0210), (0, 0, -0.0380), material=tag)
    part.draw("box", (0.0110, depth_m + 0.0004, 0.0070), (0, 0, -0.0380), material=leaf)
