"""Writes the stand-in assets folder: `python -m vega_policy.envs.libero.standins.build`.

The folder is committed, so this is needed only after changing a builder; a test regenerates and compares.
"""

from pathlib import Path

from vega_policy.envs.libero.standins import arenas, fixtures, objects

ASSETS = Path(__file__).parent / "assets"
"""The stand-in assets folder, laid out like LIBERO's own."""


def files() -> dict[str, bytes]:
    """Returns every file of the kit, by its path inside the assets folder."""
    return objects.files() | fixtures.files() | arenas.files()


def write(folder: Path = ASSETS) -> list[Path]:
    """Writes the kit into `folder`, removes files that do not belong to it, and returns what was written."""
    wanted = {folder / path: content for path, content in files().items()}
    for path in folder.rglob("*"):
        if path.is_file() and path not in wanted:
            path.unlink()
    for path, content in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return sorted(wanted)


if __name__ == "__main__":
    print(f"wrote {len(write())} files to {ASSETS}")
