"""Which meshes and textures LIBERO's objects get: the official ones or the stand-in kit.

LIBERO looks for its assets in one process-wide variable and downloads them from the Hub when it is empty.
Here the folder is chosen per environment, lent to LIBERO for the time of a build, and nothing is downloaded
unless "official" was asked for and is found nowhere. Which folder was used travels with every result.
"""

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vega_policy.envs.libero.installation import BUILD_LOCK, import_libero

ASSETS_VARIABLE = "LIBERO_ASSETS"
HUB_DATASET = "lerobot/libero-assets"
STANDIN_FOLDER = Path(__file__).parent / "standins" / "assets"
REQUIRED = (
    "scenes",
    "articulated_objects",
    "stable_hope_objects",
    "stable_scanned_objects",
    "turbosquid_objects",
)


@dataclass(frozen=True)
class Assets:
    """A complete folder of LIBERO assets.

    Attributes:
        folder: Where the files lie.
        kind: "standin" for the kit in this package, "official" for any other folder.
    """

    folder: Path
    kind: Literal["official", "standin"]

    @property
    def content_hash(self) -> str:
        """SHA-256 over the names and bytes of all files, first 16 hex digits."""
        return _hash_folder(self.folder)


def resolve_assets(choice: str | os.PathLike[str] = "auto") -> Assets:
    """Find the assets that a choice stands for.

    Args:
        choice: A folder; "official" (`LIBERO_ASSETS`, then the Hub cache, then a download); "standin"; or
            "auto" (`LIBERO_ASSETS`, then the Hub cache, then the stand-in kit; never a download).

    Raises:
        ValueError: If a named folder is not a complete assets folder.
        FileNotFoundError: If official assets were asked for and neither found nor downloadable.
    """
    if choice == "standin":
        return _checked(STANDIN_FOLDER, "the stand-in kit")
    if choice not in ("auto", "official"):
        return _checked(Path(choice), f"assets={str(choice)!r}")
    if variable := os.environ.get(ASSETS_VARIABLE):
        return _checked(Path(variable), ASSETS_VARIABLE)
    if cached := _hub_folder(download=False):
        return Assets(cached, "official")
    if choice == "auto":
        return _checked(STANDIN_FOLDER, "the stand-in kit")
    if downloaded := _hub_folder(download=True):
        return Assets(downloaded, "official")
    raise FileNotFoundError(
        f"no official LIBERO assets: {ASSETS_VARIABLE} is not set, the Hub cache has no {HUB_DATASET}, and "
        "the Hub does not answer. Set the variable to the folder, or use the stand-in kit (assets=standin)"
    )


@contextlib.contextmanager
def assets_lent(assets: Assets) -> Iterator[None]:
    """Make LIBERO read these assets inside the block; its object classes look the folder up when built."""
    libero = import_libero()
    with BUILD_LOCK:
        before = libero._assets_path_cache
        libero._assets_path_cache = str(assets.folder)
        try:
            yield
        finally:
            libero._assets_path_cache = before


def _checked(folder: Path, source: str) -> Assets:
    """The folder as assets, if it is one."""
    folder = folder.expanduser().resolve()
    missing = [name for name in REQUIRED if not (folder / name).is_dir()]
    if missing:
        raise ValueError(
            f"{source} names {folder}, which is not a folder of LIBERO assets: {', '.join(missing)} missing"
        )
    return Assets(folder, "standin" if folder == STANDIN_FOLDER.resolve() else "official")


def _hub_folder(download: bool) -> Path | None:
    """The Hub dataset's folder on this disk, or None. LeRobot's fork of LIBERO keeps a copy of its own."""
    copy = Path("~/.cache/libero/assets").expanduser()
    if all((copy / name).is_dir() for name in REQUIRED):
        return copy
    from huggingface_hub import snapshot_download

    with contextlib.suppress(OSError, ValueError):
        folder = Path(snapshot_download(HUB_DATASET, repo_type="dataset", local_files_only=not download))
        if all((folder / name).is_dir() for name in REQUIRED):
            return folder
    return None


@functools.cache
def _hash_folder(folder: Path) -> str:
    """Of names and bytes; without hidden files, in which a download notes its time."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder)
        if any(part.startswith(".") for part in name.parts):
            continue
        digest.update(name.as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
