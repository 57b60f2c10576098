"""Basket and tray: heavy free objects that others are put into, with a `contain_region` for the goal `In`."""

import math

from vega_policy.envs.libero.standins import textures
from vega_policy.envs.libero.standins.mjcf import turn
from vega_policy.envs.libero.standins.parts import ObjectFile, Part

X_AXIS, Y_AXIS, Z_AXIS = (1, 0, 0), (0, 1, 0), (0, 0, 1)


def files() -> dict[str, bytes]:
    """Returns the files of all containers by their path inside the assets folder."""
    return basket() | wooden_tray()


def basket() -> dict[str, bytes]:
    """A woven basket, 17 by 16 cm, its walls leaning out a little, 14.1 cm high inside."""
    basket = ObjectFile("basket")
    straw = basket.texture("weave", textures.weave((196, 150, 92)), repeat=2)
    rim = basket.color("rim", 0.50, 0.34, 0.18)
    part = basket.body
    part.both("box", (0.0766, 0.0724, 0.0085), (0.0012, 0, 0.0131), material=straw)
    for sign in (-1, 1):
        _wall(part, (sign * 0.0741 + 0.0012, 0, 0.0790), Y_AXIS, sign, (0.0067, 0.0724, 0.0655), straw, rim)
        _wall(part, (0.0012, sign * 0.0688, 0.0790), X_AXIS, sign, (0.0766, 0.0067, 0.0655), straw, rim)
    part.site("contain_region", "box", (0.06108, 0.06108, 0.06949), (0, 0, 0.07185), (0, 0, 0, 1))
    part.weigh(0.13611, 0.6532)
    return basket.files("stable_scanned_objects")


def wooden_tray() -> dict[str, bytes]:
    """A wooden crate-like tray, 30 by 16 cm, its short sides with a grip hole below an upper rail."""
    tray = ObjectFile("wooden_tray")
    wood = tray.texture("wood", textures.wood((178, 128, 76), planks=4, seed=3))
    part = tray.body.frame((0.0072, -0.0045, 0))
    part.both("box", (0.1440, 0.0800, 0.0036), (0, 0, 0.0030), material=wood)
    for sign in (-1, 1):
        part.both("box", (0.1440, 0.0023, 0.0292), (0, sign * 0.0805, 0.0320), material=wood)
        part.both("box", (0.0023, 0.0778, 0.0246), (sign * 0.1460, 0, 0.0299), material=wood)
        part.both("box", (0.0067, 0.0786, 0.0014), (sign * 0.1400, 0, 0.0795), material=wood)
        for end in (-1, 1):
            part.both("box", (0.0058, 0.0060, 0.0380), (sign * 0.1385, end * 0.0735, 0.0410), material=wood)
    tray.body.site(
        "contain_region",
        "box",
        (0.04038, 0.07839, 0.13549),
        (0.00863, -0.00471, 0.04255),
        turn(Y_AXIS, math.pi / 2),
    )
    part.weigh(0.05715, 0.5154)
    return tray.files("turbosquid_objects")


def _wall(
    part: Part, pos: tuple[float, float, float], axis: tuple[int, int, int], sign: int,
    half_m: tuple[float, float, float], straw: str, rim: str,
) -> None:  # fmt: skip
    lean = turn(axis, 0.077 * (sign if axis == Y_AXIS else -sign))
    part.both("box", half_m, pos, lean, material=straw)
    thin = tuple(size + 0.0012 if size < 0.01 else size for size in half_m[:2])
    part.frame(pos, lean).draw("box", (*thin, 0.0055), (0, 0, half_m[2] - 0.0055), material=rim)
