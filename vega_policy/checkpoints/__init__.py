"""Checkpoints that ship with the package: folders beside this file, by their names, each with a card."""

from pathlib import Path

FOLDER = Path(__file__).parent


def shipped_names() -> list[str]:
    """Names that `--policy.path` knows without a download."""
    return sorted(config.parent.name for config in FOLDER.glob("*/config.json"))


def shipped(name: str) -> Path | None:
    """The folder of a shipped checkpoint; None if there is none of that name."""
    return FOLDER / name if name in shipped_names() else None


def named(name: str) -> str:
    """The folder of a shipped checkpoint for its name, unless something here is called so; else `name`."""
    return name if Path(name).exists() else str(shipped(name) or name)
