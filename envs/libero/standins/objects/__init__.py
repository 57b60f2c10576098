"""LIBERO's free objects: what a robot picks up."""

from vega_policy.envs.libero.standins.objects import boxes, containers, cookware, crockery, groceries


def files() -> dict[str, bytes]:
    """Returns every file of every free object, by its path inside the assets folder."""
    return crockery.files() | groceries.files() | boxes.files() | cookware.files() | containers.files()
