"""Importing LIBERO without its side effects: no prompt, no chatter, no files in the user's home.

LIBERO's `__init__` asks for folders on stdin when `$LIBERO_CONFIG_PATH/config.yaml` (by default
`~/.libero/config.yaml`) is missing, which ends every batch job. A user's file is respected; without one, a
private file in the user's cache folder is shown to LIBERO for the time of the import.
"""

import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import io
import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONFIG_VARIABLE = "LIBERO_CONFIG_PATH"

MUJOCO_VERSION = "3.3.2"
"""The version LIBERO's published results are comparable with: 3.3.3 and later render LIBERO-Object's floor
darker (LIBERO issue 88), 3.4.0 and later unseat the bowl of a LIBERO-Spatial task (lerobot issue 4390)."""

BUILD_LOCK = threading.RLock()
"""Held whenever process-wide state is lent to LIBERO: stdout, the config variable, the assets folder, and
NumPy's global generator."""


def import_libero(module: str = "libero.libero") -> Any:
    """Import a module of LIBERO, prompting nobody and printing nothing.

    Raises:
        ImportError: If LIBERO is not installed.
    """
    with BUILD_LOCK, quiet():
        with _config_lent():
            importlib.import_module("libero.libero")
            importlib.import_module("libero.libero.utils")  # or it writes a broken config file later
        return importlib.import_module(module)


def libero_folder(key: str) -> Path:
    """A folder that LIBERO's config names, such as "bddl_files" or "init_states".

    Raises:
        ValueError: If the config names a folder that does not exist.
    """
    libero = import_libero()
    folder = Path(libero.get_libero_path(key))
    if not folder.is_dir():
        raise ValueError(
            f"LIBERO's config {libero.config_file} names {folder} for {key!r}, which is not a folder; "
            "mend that line, or remove the file and vega_policy brings its own"
        )
    return folder


def installed_versions() -> dict[str, str]:
    """Versions of the simulator's packages, by their short names."""
    names = {"mujoco": "mujoco", "robosuite": "robosuite", "libero": "hf-libero"}
    return {short: importlib.metadata.version(name) for short, name in names.items()}


def version_warnings() -> list[str]:
    """What about the installed versions makes results incomparable; empty when nothing does."""
    found = installed_versions()["mujoco"]
    if found == MUJOCO_VERSION:
        return []
    return [
        f"mujoco {found} changes LIBERO's results; comparable ones need {MUJOCO_VERSION} "
        f"(pip install mujoco=={MUJOCO_VERSION})"
    ]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallow what LIBERO and robosuite print or warn about on import and on every build."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(previous)


@contextlib.contextmanager
def _config_lent() -> Iterator[None]:
    """Point LIBERO at a private config file unless the user has one."""
    before = os.environ.get(CONFIG_VARIABLE)
    users = Path(before or "~/.libero").expanduser()
    if (users / "config.yaml").is_file():
        yield
        return
    os.environ[CONFIG_VARIABLE] = str(_private_config_folder())
    try:
        yield
    finally:
        if before is None:
            del os.environ[CONFIG_VARIABLE]
        else:
            os.environ[CONFIG_VARIABLE] = before


def _private_config_folder() -> Path:
    """A folder with a config file for this installation of LIBERO (one each: the file holds its paths)."""
    package = _package_folder()
    key = hashlib.sha256(str(package).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    for root in (cache, Path(tempfile.gettempdir())):
        folder = root / "vega_policy" / f"libero-config-{key}"
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            _write_config(folder / "config.yaml", package)
            return folder
    raise OSError(f"neither {cache} nor {tempfile.gettempdir()} can be written: LIBERO needs a config file")


def _package_folder() -> Path:
    """Where LIBERO's code and task files lie, found without importing it."""
    outer = importlib.util.find_spec("libero")
    if outer is None or outer.submodule_search_locations is None:
        raise ImportError("LIBERO is not installed: pip install --no-deps hf-libero==0.1.4")
    return Path(next(iter(outer.submodule_search_locations))) / "libero"


def _write_config(file: Path, package: Path) -> None:
    """Write LIBERO's default paths; atomically, as several processes may start at once."""
    import yaml

    paths = {
        "benchmark_root": str(package),
        "bddl_files": str(package / "bddl_files"),
        "init_states": str(package / "init_files"),
        "datasets": str(package.parent / "datasets"),
        "assets": str(package / "assets"),
    }
    text = yaml.safe_dump(paths)
    if file.is_file() and file.read_text() == text:
        return
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(file)
