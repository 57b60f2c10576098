"""Bowls, plate, ramekin and mugs: hollow, with walls thin enough for a gripper to take them by the rim.

Origins are at the bottom, on the axis of the mug's LIBERO counterpart (a mug's cup stands beside its origin).
"""

from vega_policy.envs.libero.standins.parts import ObjectFile
from vega_policy.envs.libero.standins.shapes import bar, floor, ring

SCANNED = "stable_scanned_objects"
TURBOSQUID = "turbosquid_objects"


def files() -> dict[str, bytes]:
    """Returns the files of all crockery by their path inside the assets folder."""
    return (
        akita_black_bowl()
        | white_bowl()
        | ramekin()
        | plate()
        | porcelain_mug()
        | white_yellow_mug()
        | red_mug()
    )


def akita_black_bowl() -> dict[str, bytes]:
    """A black bowl with a grey inside and a pale line under its rim, 10.7 cm wide."""
    bowl = ObjectFile("akita_black_bowl", pos=(0, -0.1, 0))
    black, grey, pale = (
        bowl.color("black", 0.06, 0.06, 0.07, shine=0.5),
        bowl.color("grey", 0.24, 0.23, 0.22),
        "",
    )
    pale = bowl.color("pale", 0.62, 0.57, 0.48)
    part = bowl.body
    floor(part, 0.026, 0.0042, 0.0026)
    ring(part, 0.0335, 0.0098, 0.0119, 0.0007, lean_rad=1.047, material=black)
    ring(part, 0.0471, 0.0337, 0.0188, 0.0013, lean_rad=0.257, material=black)
    ring(part, 0.0450, 0.0325, 0.0175, 0.0006, lean_rad=0.257, material=grey, solid=False)
    ring(part, 0.0505, 0.0471, 0.0026, 0.0017, lean_rad=0.257, material=pale, solid=False)
    part.draw("cylinder", (0.030, 0.0026), (0, 0, 0.0042), material=black)
    part.draw("cylinder", (0.036, 0.0005), (0, 0, 0.0115), material=grey)
    part.weigh(0.00559, 0.0658)
    return bowl.files(SCANNED)


def white_bowl() -> dict[str, bytes]:
    """A white bowl, 8.1 cm wide."""
    bowl = ObjectFile("white_bowl")
    white, inside = bowl.color("white", 0.93, 0.93, 0.91, shine=0.4), bowl.color("inside", 0.82, 0.83, 0.84)
    part = bowl.body
    floor(part, 0.0185, 0.0024, 0.0018)
    ring(part, 0.0239, 0.0069, 0.0085, 0.0006, lean_rad=1.047, material=white)
    ring(part, 0.0357, 0.0226, 0.0127, 0.0010, lean_rad=0.285, material=white)
    ring(part, 0.0341, 0.0215, 0.0115, 0.0005, lean_rad=0.285, material=inside, solid=False)
    part.draw("cylinder", (0.022, 0.0018), (0, 0, 0.0024), material=white)
    part.draw("cylinder", (0.026, 0.0004), (0, 0, 0.0085), material=inside)
    part.weigh(0.00209, 0.0223)
    return bowl.files(SCANNED)


def ramekin() -> dict[str, bytes]:
    """A white baking dish with a glazed brown rim, 8.9 cm wide."""
    dish = ObjectFile("glazed_rim_porcelain_ramekin")
    white, inside = dish.color("white", 0.92, 0.91, 0.88, shine=0.5), dish.color("inside", 0.84, 0.83, 0.80)
    rim = dish.color("rim", 0.55, 0.38, 0.24, shine=0.5)
    part = dish.body
    floor(part, 0.0345, 0.0041, 0.0032)
    ring(part, 0.0384, 0.0217, 0.0208, 0.0026, lean_rad=0.15, material=white)
    ring(part, 0.0414, 0.0410, 0.0022, 0.0030, lean_rad=0.15, material=rim, solid=False)
    part.draw("cylinder", (0.0355, 0.0032), (0, 0, 0.0041), material=white)
    part.draw("cylinder", (0.0350, 0.0004), (0, 0, 0.0077), material=inside)
    part.weigh(0.00966, 0.0381)
    return dish.files(SCANNED)


def plate() -> dict[str, bytes]:
    """A cream plate with a blue ring, 13.7 cm wide; it stands on the lower edge of its rim.

    Twelve sides are round enough: the corners of eight fling a bowl away that is let fall beside the plate.
    """
    dish = ObjectFile("plate")
    cream, blue = dish.color("cream", 0.93, 0.91, 0.85, shine=0.5), dish.color("blue", 0.25, 0.36, 0.60)
    well = dish.color("well", 0.86, 0.84, 0.78)
    part = dish.body
    part.solid("box", (0.0295, 0.0295, 0.0022), (0, 0, 0.0031))
    ring(part, 0.0475, 0.0070, 0.0191, 0.0025, lean_rad=1.187, sides=12)
    ring(part, 0.0484, 0.0075, 0.0191, 0.0020, lean_rad=1.187, sides=24, material=cream, solid=False)
    ring(part, 0.0610, 0.0140, 0.0025, 0.0012, lean_rad=1.187, sides=24, material=blue, solid=False)
    part.draw("cylinder", (0.038, 0.0026), (0, 0, 0.0031), material=well)
    part.weigh(0.01152, 0.0305)
    return dish.files(SCANNED)


def porcelain_mug() -> dict[str, bytes]:
    """A white mug with its handle towards -x, 10.6 cm high, the lower third tapering."""
    mug = ObjectFile("porcelain_mug")
    white, inside = mug.color("white", 0.95, 0.95, 0.93, shine=0.5), mug.color("inside", 0.80, 0.80, 0.79)
    part = mug.body.frame((0.0148, -0.0013, 0))
    floor(part, 0.0245, 0.0076, 0.0052)
    ring(part, 0.0346, 0.0239, 0.0216, 0.0014, lean_rad=0.41, material=white)
    ring(part, 0.0436, 0.0758, 0.0326, 0.0024, material=white)
    ring(part, 0.0408, 0.0748, 0.0326, 0.0006, material=inside, solid=False)
    part.draw("cylinder", (0.027, 0.0052), (0, 0, 0.0076), material=white)
    part.draw("cylinder", (0.036, 0.0005), (0, 0, 0.030), material=inside)
    handle = mug.body
    bar(handle, (-0.0595, 0, 0.0362), (-0.0595, 0, 0.0758), (0.0038, 0.008), material=white)
    bar(handle, (-0.0590, 0, 0.0385), (-0.0242, 0, 0.0187), (0.0038, 0.008), material=white)
    bar(handle, (-0.0627, 0, 0.0730), (-0.0285, 0, 0.0938), (0.0038, 0.008), material=white)
    mug.body.weigh(0.01646, 0.1206)
    return mug.files(TURBOSQUID)


def white_yellow_mug() -> dict[str, bytes]:
    """A stout mug, white above and yellow below, with its handle towards +x, 10.3 cm high."""
    mug = ObjectFile("white_yellow_mug")
    white, yellow = (
        mug.color("white", 0.94, 0.93, 0.90, shine=0.5),
        mug.color("yellow", 0.93, 0.72, 0.14, shine=0.5),
    )
    inside = mug.color("inside", 0.80, 0.79, 0.75)
    part = mug.body.frame((-0.0184, 0, 0))
    floor(part, 0.0272, 0.0027, 0.0025)
    ring(part, 0.0310, 0.0106, 0.0103, 0.0041, lean_rad=0.632, material=yellow)
    ring(part, 0.0428, 0.0593, 0.0436, 0.0041, lean_rad=0.13, material=white)
    ring(part, 0.0404, 0.0370, 0.0212, 0.0050, lean_rad=0.13, material=yellow, solid=False)
    part.draw("cylinder", (0.029, 0.0025), (0, 0, 0.0027), material=yellow)
    part.draw("cylinder", (0.036, 0.0005), (0, 0, 0.022), material=inside)
    handle = mug.body
    bar(handle, (0.0641, 0, 0.0268), (0.0641, 0, 0.0852), (0.0041, 0.0088), material=white)
    bar(handle, (0.0158, 0, 0.0210), (0.0646, 0, 0.0316), (0.0041, 0.0088), material=yellow)
    bar(handle, (0.0248, 0, 0.0772), (0.0680, 0, 0.0820), (0.0041, 0.0088), material=white)
    mug.body.weigh(0.03091, 0.1209)
    return mug.files(TURBOSQUID)


def red_mug() -> dict[str, bytes]:
    """A tall red mug with its handle towards +x, 13.1 cm high."""
    mug = ObjectFile("red_coffee_mug")
    red, inside = mug.color("red", 0.75, 0.08, 0.08, shine=0.5), mug.color("inside", 0.90, 0.88, 0.84)
    part = mug.body.frame((-0.0171, -0.0012, 0))
    floor(part, 0.0300, 0.0053, 0.0025)
    ring(part, 0.0330, 0.0645, 0.0664, 0.0035, lean_rad=0.115, material=red)
    ring(part, 0.0304, 0.0655, 0.0640, 0.0008, lean_rad=0.115, material=inside, solid=False)
    part.draw("cylinder", (0.027, 0.0025), (0, 0, 0.0053), material=red)
    handle = mug.body.frame((0, 0.0011, 0))
    bar(handle, (0.0137, 0, 0.0252), (0.0590, 0, 0.0745), (0.0029, 0.0076), material=red)
    bar(handle, (0.0566, 0, 0.0752), (0.0536, 0, 0.1136), (0.0027, 0.0069), material=red)
    bar(handle, (0.0166, 0, 0.1090), (0.0550, 0, 0.1142), (0.0027, 0.0069), material=red)
    mug.body.weigh(0.02935, 0.124)
    return mug.files(TURBOSQUID)
