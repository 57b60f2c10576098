"""Frying pan, moka pot and wine bottle."""

import math

from vega_policy.envs.libero.standins.mjcf import turn
from vega_policy.envs.libero.standins.parts import ObjectFile
from vega_policy.envs.libero.standins.shapes import bar, floor, prism, ring

SCANNED = "stable_scanned_objects"
TURBOSQUID = "turbosquid_objects"


def files() -> dict[str, bytes]:
    """Returns the files of all cookware by their path inside the assets folder."""
    return frypan() | moka_pot() | wine_bottle()


def frypan() -> dict[str, bytes]:
    """A dark frying pan, 20 cm wide, its handle rising towards +x to 5.9 cm above the table."""
    pan = ObjectFile("chefmate_8_frypan")
    iron, inside = pan.color("iron", 0.16, 0.16, 0.17, shine=0.4), pan.color("inside", 0.27, 0.27, 0.28)
    grip, steel = pan.color("grip", 0.07, 0.07, 0.07), pan.color("steel", 0.65, 0.65, 0.67, shine=0.6)
    part = pan.body.frame((0.0045, -0.001, 0))
    floor(part, 0.075, 0.0068, 0.0060)
    ring(part, 0.0865, 0.0223, 0.0213, 0.0036, lean_rad=0.54, material=iron)
    ring(part, 0.0975, 0.0405, 0.0020, 0.0022, lean_rad=0.54, material=steel, solid=False)
    part.draw("cylinder", (0.078, 0.0060), (0, 0, 0.0068), material=iron)
    part.draw("cylinder", (0.080, 0.0005), (0, 0, 0.0145), material=inside)
    handle = pan.body
    bar(handle, (0.1030, 0, 0.0145), (0.1400, 0, 0.0330), (0.0075, 0.0104), material=steel)
    bar(handle, (0.1262, 0, 0.0354), (0.2590, 0, 0.0526), (0.0062, 0.0127), material=grip)
    handle.weigh(0.05025, 0.2032)
    return pan.files(SCANNED)


def moka_pot() -> dict[str, bytes]:
    """An eight-sided aluminium coffee pot: spout towards -y, black handle towards +y, a 1 cm knob on the lid.

    Its origin is at mid-height, 6.6 cm above the bottom.
    """
    pot = ObjectFile("moka_pot")
    metal, dark = (
        pot.color("metal", 0.70, 0.71, 0.73, shine=0.6),
        pot.color("shade", 0.55, 0.56, 0.58, shine=0.6),
    )
    black = pot.color("black", 0.06, 0.06, 0.06)
    part = pot.body
    part.solid("box", (0.0250, 0.0325, 0.0666), (0, 0.0018, 0.0004))
    for angle_rad in (0.43, -0.43, math.pi + 0.43, math.pi - 0.43):
        flank = part.frame((0, 0.0018, 0), turn((0, 0, 1), angle_rad))
        flank.solid("box", (0.0042, 0.0172, 0.0656), (0.0325, 0, 0.0004))
    tilted = part.frame((0, 0.0012, 0), turn((0, 0, 1), math.pi / 8))
    for lean_rad, z_m, radius_m in ((-0.15, -0.0375, 0.0310), (0.13, 0.0260, 0.0312)):
        ring(tilted, radius_m, z_m, 0.0290, 0.0030, lean_rad=lean_rad, sides=8, material=metal, solid=False)
    part.draw("cylinder", (0.0345, 0.0020), (0, 0.0012, -0.0641), material=dark)
    part.draw("cylinder", (0.0320, 0.0065), (0, 0.0012, -0.0060), material=dark)
    part.draw("cylinder", (0.0360, 0.0025), (0, 0.0012, 0.0560), material=dark)
    part.draw("ellipsoid", (0.0340, 0.0340, 0.0120), (0, 0.0012, 0.0580), material=metal)
    part.solid("box", (0.0176, 0.0060, 0.0245), (0, -0.0359, 0.0426))
    part.solid("box", (0.0080, 0.0072, 0.0137), (0, -0.0490, 0.0462))
    part.draw("box", (0.0060, 0.0130, 0.0150), (0, -0.0430, 0.0440), turn((1, 0, 0), 0.55), material=metal)
    knob = (0, -0.0013, 0.0743)
    part.solid("box", (0.0052, 0.0060, 0.0114), knob)
    part.draw("cylinder", (0.0056, 0.0114), knob, material=black)
    handle = part.frame(quat=turn((0, 0, 1), math.pi / 2))
    for start, end in (
        ((0.0330, 0, 0.0530), (0.0460, 0, 0.0560)),
        ((0.0445, 0, 0.0575), (0.0720, 0, 0.0610)),
        ((0.0650, 0, 0.0640), (0.0845, 0, 0.0440)),
        ((0.0850, 0, 0.0520), (0.0610, 0, 0.0040)),
    ):
        bar(handle, start, end, (0.0068, 0.0066), material=black)
    part.weigh(0.06824, 0.1311)
    return pot.files(TURBOSQUID)


def wine_bottle() -> dict[str, bytes]:
    """A green bottle, 15.9 cm high: paper label, red capsule, 1.5 cm neck. Its origin is its base."""
    bottle = ObjectFile("wine_bottle")
    glass, paper = bottle.color("glass", 0.05, 0.16, 0.08, shine=0.7), bottle.color("paper", 0.93, 0.89, 0.76)
    foil, ink = bottle.color("foil", 0.50, 0.06, 0.10), bottle.color("ink", 0.45, 0.10, 0.14)
    part = bottle.body
    prism(part, 0.0222, 0.0360, (0.0004, 0, 0.0372))
    part.solid("box", (0.0118, 0.0118, 0.0075), (0, 0, 0.0806))
    part.solid("box", (0.0080, 0.0080, 0.0070), (0, 0, 0.0930))
    prism(part, 0.0077, 0.0400, (0, 0, 0.1180), sides=8)
    part.draw("cylinder", (0.0214, 0.0355), (0, 0, 0.0357), material=glass)
    part.draw("ellipsoid", (0.0214, 0.0214, 0.0270), (0, 0, 0.0700), material=glass)
    part.draw("cylinder", (0.0074, 0.0370), (0, 0, 0.1150), material=glass)
    part.draw("cylinder", (0.0078, 0.0140), (0, 0, 0.1445), material=foil)
    part.draw("cylinder", (0.0218, 0.0190), (0, 0, 0.0360), material=paper)
    part.draw("cylinder", (0.0220, 0.0025), (0, 0, 0.0490), material=ink)
    part.draw("cylinder", (0.0220, 0.0012), (0, 0, 0.0220), material=ink)
    part.weigh(0.01539, 0.0509)
    return bottle.files(TURBOSQUID)
