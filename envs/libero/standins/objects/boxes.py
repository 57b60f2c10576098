"""Cartons, packets and books: one solid box each, told apart by colour and a printed word."""

from vega_policy.envs.libero.standins import textures
from vega_policy.envs.libero.standins.mjcf import Vec, turn
from vega_policy.envs.libero.standins.parts import UP_IS_Y, ObjectFile
from vega_policy.envs.libero.standins.textures import Color, Pixels, faces, label

HOPE = "stable_hope_objects"
TURBOSQUID = "turbosquid_objects"
WHITE, BLACK = (245, 243, 238), (25, 22, 22)


def files() -> dict[str, bytes]:
    """Returns the files of all boxes by their path inside the assets folder."""
    return packets() | milk() | orange_juice() | books()


def packets() -> dict[str, bytes]:
    """The four flat packets: they lie on their largest face."""
    blue, pale_blue, sky = (60, 105, 190), (205, 219, 238), (150, 205, 235)
    red, brown = (190, 30, 35), (84, 48, 30)
    return (
        _packet(
            "cream_cheese", (0.0406, 0.0213, 0.0089), 0.00619, 0.0124, (-0.025, 0.025, 0.03),
            front=label("CREAM\nCHEESE", pale_blue, blue, band=blue), side=textures.plain(pale_blue),
        )
        | _packet(
            "butter", (0.0381, 0.0198, 0.0087), 0.00525, 0.0103, (-0.02, 0.02, 0.02),
            front=label("FARM\nBUTTER", (240, 200, 70), red, band=red), side=textures.plain((225, 170, 45)),
        )
        | _packet(
            "chocolate_pudding", (0.0401, 0.0232, 0.0137), 0.01019, 0.0216, (-0.06, 0.04, 0.025),
            front=label("CHOC\nPUDDING", brown, sky, band=sky), side=textures.plain(brown),
            center=(-0.0005, 0, 0.0006),
        )
        | _packet(
            "cookies", (0.0310, 0.0413, 0.0094), 0.00964, 0.0191, (-0.06, 0.04, 0.025),
            front=label("COOKIES", red, (250, 225, 160), band=(205, 150, 85)),
            side=textures.checks(red, WHITE),
        )
    )  # fmt: skip


def milk() -> dict[str, bytes]:
    """A white milk carton with a red stripe and a gable top."""
    front = label("MILK", WHITE, (200, 25, 30), band=(200, 25, 30))
    return _carton("milk", front, 0.0685, 0.03, roof=(200, 25, 30))


def orange_juice() -> dict[str, bytes]:
    """An orange juice carton with a gable top."""
    front = label("ORANGE\nJUICE", (252, 176, 40), WHITE, band=(240, 110, 15))
    return _carton("orange_juice", front, 0.0677, 0.025, roof=(245, 205, 50))


def books() -> dict[str, bytes]:
    """Two books standing on edge, their backs towards -y, leaning on nothing."""
    return _book(
        "black_book",
        (0.0143, 0.0552, 0.0672),
        (-0.0005, -0.0122, 0.0694),
        0.04255,
        0.1559,
        (40, 38, 42),
        "NOTES",
    ) | _book(
        "yellow_book",
        (0.0118, 0.0489, 0.0611),
        (0.0016, 0.0001, 0.0631),
        0.02812,
        0.1078,
        (232, 190, 40),
        "ATLAS",
    )


def _packet(
    name: str,
    half_m: Vec,
    solid_kg: float,
    total_kg: float,
    sites_m: tuple[float, float, float],
    *,
    front: Pixels,
    side: Pixels,
    center: Vec = (0, 0, 0),
) -> dict[str, bytes]:
    packet = ObjectFile(name, *sites_m)
    long_side_is_y = half_m[1] > half_m[0]
    top = front.swapaxes(0, 1)[:, ::-1] if long_side_is_y else front
    material = packet.texture("print", faces(x=side, y=side, z=top))
    packet.body.both("box", half_m, center, material=material)
    packet.body.weigh(solid_kg, total_kg)
    return packet.files(HOPE)


def _carton(name: str, front: Pixels, total_kg: float, radius_site_m: float, roof: Color) -> dict[str, bytes]:
    carton = ObjectFile(name, -0.06, 0.04, radius_site_m)
    sheet = carton.texture("print", faces(x=front, y=front, z=textures.plain(roof)))
    top = carton.texture("roof", textures.plain(roof, side=8))
    part = carton.body.frame(quat=UP_IS_Y)
    part.both("box", (0.0263, 0.0262, 0.0548), (0, 0, -0.015), material=sheet)
    for side in (-1, 1):
        part.both(
            "box",
            (0.0263, 0.0022, 0.0138),
            (0, side * 0.0135, 0.0478),
            turn((1, 0, 0), side * 0.83),
            material=top,
        )
    part.both("box", (0.0265, 0.0032, 0.0032), (0, 0, 0.0583), material=top)
    carton.body.weigh(0.03167, total_kg)
    return carton.files(HOPE)


def _book(
    name: str, half_m: Vec, center: Vec, solid_kg: float, total_kg: float, color: Color, title: str
) -> dict[str, bytes]:
    book = ObjectFile(name)
    ink = WHITE if sum(color) < 300 else BLACK
    pages = textures.stripes([(236, 230, 212), (215, 207, 186)] * 8)
    cover = book.texture(
        "cover", faces(x=label(title, color, ink), y=textures.plain(color), z=textures.plain(color))
    )
    paper = book.texture("pages", pages)
    x, y, z = half_m
    book.body.solid("box", half_m, center)
    for side in (-1, 1):
        book.body.draw("box", (0.0016, y, z), (center[0] + side * (x - 0.0016), *center[1:]), material=cover)
    book.body.draw("box", (x, 0.0016, z), (center[0], center[1] - y + 0.0016, center[2]), material=cover)
    inner = (center[0], center[1] + 0.001, center[2])
    book.body.draw("box", (x - 0.0030, y - 0.003, z - 0.003), inner, material=paper)
    book.body.weigh(solid_kg, total_kg)
    return book.files(TURBOSQUID)
