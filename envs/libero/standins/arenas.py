"""The five arenas of LIBERO's suites: a room, its lights and cameras, and the table or floor things stand on.

What LIBERO's arena classes look up is kept: file names, bodies and sites of tables and floor, the textures
`texplane` and `tex-wall` (whose file LIBERO replaces by the style's), cameras and lights. Collision boxes
have the measured places and sizes of LIBERO's tables, so its init states load and objects rest where they
do there. What is surprising: LIBERO's own classes move and resize `table`, so the sizes written for it are
placeholders; living room and study tables, in contrast, are used exactly as written.
"""

import xml.etree.ElementTree as ET
from collections.abc import Callable

from vega_policy.envs.libero.standins import decor, surfaces
from vega_policy.envs.libero.standins.mjcf import Attribute, collision, document, element, material, visual

FLOOR_FRICTION = (1, 0.005, 0.0001)  # sliding, torsional, rolling; LIBERO's tables
FURNITURE_FRICTION = (0.95, 0.3, 0.1)
ROUNDING_M = 0.3


def files() -> dict[str, bytes]:
    """Returns every arena and texture: path in the assets folder -> file content."""
    scenes = {
        f"scenes/libero_{name}_base_style.xml": _scene(name, furnish) for name, furnish in ARENAS.items()
    }
    return scenes | surfaces.files()


def _scene(name: str, furnish: Callable[[ET.Element, ET.Element], None]) -> bytes:
    root = element(None, "mujoco", model=f"{name}_standin")
    assets = element(root, "asset")
    world = element(root, "worldbody")
    _room(assets, world)
    furnish(assets, world)
    _lights(world)
    _cameras(world)
    return document(root)


def _room(assets: ET.Element, world: ET.Element) -> None:
    """Adds four walls and the materials of walls and floor; +x points from the robot into the room."""
    sky: dict[str, Attribute] = {
        "rgb1": (0.9, 0.92, 0.95),
        "rgb2": (0.7, 0.75, 0.8),
        "width": 16,
        "height": 16,
    }
    element(assets, "texture", type="skybox", builtin="gradient", **sky)
    _surface(assets, "floorplane", "texplane", "light-gray-floor-tile", period_m=0.6)
    _surface(assets, "walls_mat", "tex-wall", "light-gray-plaster", period_m=1)
    upright_x = (0.5, 0.5, 0.5, 0.5)
    upright_y = (0.7071068, 0.7071068, 0, 0)
    for side, pos, width_m, quat in (
        ("rear", (-2, 0, 1.5), 3, upright_x),
        ("front", (3, 0, 1.5), 3, upright_x),
        ("left", (0.5, 3, 1.5), 2.5, upright_y),
        ("right", (0.5, -3, 1.5), 2.5, upright_y),
    ):
        visual(
            world,
            "box",
            (width_m, 1.5, 0.01),
            pos,
            quat=quat,
            material="walls_mat",
            name=f"wall_{side}_visual",
        )


def _surface(assets: ET.Element, name: str, texture: str, file: str, period_m: float) -> None:
    """Adds a matt material whose picture has the same size on every geom, unlike `mjcf.material`'s."""
    element(assets, "texture", name=texture, type="2d", file=f"../textures/{file}.png")
    # MuJoCo counts uniform repeats per 2 m: a geom's own coordinates run from -1 to 1.
    repeat: dict[str, Attribute] = {"texuniform": "true", "texrepeat": (2 / period_m, 2 / period_m)}
    element(assets, "material", name=name, texture=texture, **repeat, reflectance=0, specular=0, shininess=0)


def _lights(world: ET.Element) -> None:
    """Adds LIBERO's two lights by name, as even daylight without shadows."""
    shared = {"directional": "true", "castshadow": "false"}
    sun = {"ambient": (0.25, 0.25, 0.25), "diffuse": (0.34, 0.34, 0.32), "specular": (0.1, 0.1, 0.1)}
    sky = {"ambient": (0, 0, 0), "diffuse": (0.13, 0.13, 0.15), "specular": (0, 0, 0)}
    element(world, "light", name="light1", pos=(1, 1, 4), dir=(-0.45, -0.3, -1), **shared, **sun)
    element(world, "light", name="light2", pos=(-3, -3, 4), dir=(0.35, 0.6, -0.7), **shared, **sky)


def _cameras(world: ET.Element) -> None:
    """Adds the cameras at LIBERO's places; its problem classes move `agentview` and `frontview` further."""
    for name, pos, quat in (
        ("frontview", (1, 0, 1.45), (0.56, 0.43, 0.43, 0.56)),
        ("birdview", (-0.2, 0, 3), (0.7071, 0, 0, 0.7071)),
        ("agentview", (0.5, 0, 1.35), (0.653, 0.271, 0.271, 0.653)),
        ("sideview", (-0.056518, 1.276122, 1.487957), (0.009905, 0.006878, 0.591223, 0.806418)),
    ):
        element(world, "camera", name=name, mode="fixed", pos=pos, quat=quat)


def _floor(parent: ET.Element) -> None:
    element(
        parent,
        "geom",
        name="floor",
        type="plane",
        size=(3, 3, 0.125),
        material="floorplane",
        condim=3,
        group=1,
    )


def _four_legged_table(assets: ET.Element, world: ET.Element) -> None:
    """Adds floor and work table of the tabletop and kitchen arenas; LIBERO puts its top at 0.90 m."""
    _floor(world)
    material(assets, "table_texture", texture_file="../textures/table_birch.png", specular=0.1)
    material(assets, "table_legs", (0.62, 0.63, 0.65, 1))
    table = element(world, "body", name="table", pos=(0, 0, 0.4))
    collision(table, "box", (0.4, 0.4, 0.4), friction=FLOOR_FRICTION, name="table_collision")
    visual(table, "box", (0.4, 0.4, 0.4), material="table_texture", name="table_visual")
    element(table, "site", name="table_top", pos=(0, 0, 0.4), size=(0.001, 0.001, 0.001), rgba=(0, 0, 0, 0))
    for leg in range(1, 5):
        visual(table, "cylinder", (0.025, 0.4), material="table_legs", name=f"table_leg{leg}_visual")


def _tabletop(assets: ET.Element, world: ET.Element) -> None:
    _four_legged_table(assets, world)
    decor.skirting(world)


def _kitchen(assets: ET.Element, world: ET.Element) -> None:
    _four_legged_table(assets, world)
    decor.kitchen(assets, world)


def _empty_floor(_: ET.Element, world: ET.Element) -> None:
    _floor(element(world, "body", name="floor"))
    decor.skirting(world)


def _living_room(assets: ET.Element, world: ET.Element) -> None:
    """Adds floor and the oval coffee table (top at 0.437 m), whose top five boxes cover."""
    _floor(element(world, "body", name="floor"))
    _surface(assets, "table_texture", "tex-table", "table_walnut", period_m=ROUNDING_M)
    table = element(world, "body", name="living_room_table")
    solid = element(table, "body", name="living_room_table_col", pos=(-0.25, 0.25, 0))
    for size, pos in (
        ((0.44432, 0.67171, 0.01184), (0, -0.19761, 0.42492)),
        ((0.41675, 0.10133, 0.01184), (0, 0.54936, 0.42492)),
        ((0.41675, 0.10133, 0.01184), (0, -0.97006, 0.42492)),
        ((0.07752, 0.67171, 0.01184), (0.51121, -0.19761, 0.42492)),
        ((0.07752, 0.67171, 0.01184), (-0.49665, -0.19761, 0.42492)),
        ((0.41162, 0.43516, 0.20884), (0, 0, 0.20414)),
    ):
        _furniture(solid, size, pos)
    # The top is a box with a round end on either side, one period of the grain apart so that all three match.
    visual(solid, "box", (0.6, ROUNDING_M, 0.0125), (0.01, -0.21, 0.4243), material="table_texture")
    for end_m in (-ROUNDING_M, ROUNDING_M):
        visual(solid, "cylinder", (0.6, 0.0125), (0.01, -0.21 + end_m, 0.4243), material="table_texture")
    visual(solid, "cylinder", (0.36, 0.206), (0.01, -0.21, 0.206), material="table_texture")
    decor.living_room(assets, world)


def _study(assets: ET.Element, world: ET.Element) -> None:
    """Adds floor and desk (top at 0.885 m) on two frames."""
    _floor(world)
    material(assets, "table_texture", texture_file="../textures/table_oak.png", specular=0.1)
    desk = element(world, "body", name="study_table")
    top_size, top_pos = (0.68946, 1.39273, 0.03584), (0, 0, 0.84929)
    _furniture(desk, top_size, top_pos)
    visual(desk, "box", top_size, top_pos, material="table_texture")
    steel = (0.3, 0.31, 0.33, 1)
    for y_m in (-0.69, 0.71):
        for x_m in (-0.5, 0.496):
            _furniture(desk, (0.02, 0.05, 0.394), (x_m, y_m, 0.394))
            visual(desk, "box", (0.02, 0.05, 0.394), (x_m, y_m, 0.394), rgba=steel)
        _furniture(desk, (0.51, 0.05, 0.02), (-0.005, y_m, 0.025))
        visual(desk, "box", (0.51, 0.05, 0.02), (-0.005, y_m, 0.025), rgba=steel)
    decor.study(world)


def _furniture(body: ET.Element, half_size: tuple[float, ...], pos: tuple[float, ...]) -> None:
    """Adds one solid box of a table, with the hard contact and friction LIBERO gives its furniture."""
    collision(
        body,
        "box",
        half_size,
        pos,
        friction=FURNITURE_FRICTION,
        solref=(0.001, 1),
        solimp=(0.998, 0.998, 0.001),
    )


ARENAS: dict[str, Callable[[ET.Element, ET.Element], None]] = {
    "tabletop": _tabletop,
    "floor": _empty_floor,
    "kitchen_tabletop": _kitchen,
    "living_room_tabletop": _living_room,
    "study": _study,
}
