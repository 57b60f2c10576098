"""What a run was asked for, kept in a file, so that a resumed run is the same run.

The file has the settings, the state of the dataset's files, and the code revision of every session. A request
from before revisions or the dataset were kept is read as well, and a run from before its request was goes on.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import draccus

from vega_policy.cli.provenance import git_revision
from vega_policy.rollouts.files import write_atomically
from vega_policy.rollouts.folder import REVISIONS, of_sessions
from vega_policy.rollouts.settings import changes

REQUEST, DATASET, PROCESSES = "request.json", "dataset_files", "num_processes"


def request_of(config: Any, dataset_root: Path | str | None) -> dict[str, Any]:
    """All that a run depends on, as JSON values.

    Args:
        config: The settings.
        dataset_root: The dataset's folder; None for one from the Hub, whose revision is a setting. Of one
            that is not whole, so that the run fetches what is missing, nothing is kept.
    """
    from vega_policy.training.cache.contents import fingerprint
    from vega_policy.training.metadata import is_whole

    is_here = dataset_root is not None and is_whole(Path(dataset_root))
    settings = json.loads(json.dumps(draccus.encode(config)))
    files = fingerprint(Path(str(dataset_root))) if is_here else None
    # A batch is one of every process: torchrun and accelerate say how many there are.
    return {**settings, DATASET: files, PROCESSES: int(os.environ.get("WORLD_SIZE", "1"))}


def refuse_another_request(
    file: Path, request: Mapping[str, Any], free_to_change: Sequence[str], section: str | None = None
) -> None:
    """Compare a request with that of the run to be resumed, if there is one.

    Args:
        file: Where the earlier request is.
        request: Today's.
        free_to_change: Settings, or sections of them, on which what was computed does not depend.
        section: Of the file, where the earlier request is; the whole of it if not given.

    Raises:
        ValueError: For the settings that differ; the message lists them.
    """
    if not file.is_file():
        return
    kept = _read(file) if section is None else _read(file)[section]
    # A dataset that was not whole then was fetched by the run itself: what it was is not known.
    stored = {name: value for name, value in kept.items() if (name, value) != (DATASET, None)}
    before = {DATASET: request[DATASET], PROCESSES: request[PROCESSES], **stored}
    before.pop(REVISIONS, None)
    found = changes(before, request)
    lines = [f"{key}: {change}" for key, change in found.items() if not _is_in(key, free_to_change)]
    if lines:
        raise ValueError(
            f"cannot resume {file.parent} with another request; undo the changes, or choose another "
            f"--output_dir ({DATASET} follows names, sizes and times of the dataset's files):\n  "
            + "\n  ".join(lines)
        )


def record_request(file: Path, request: Mapping[str, Any]) -> list[str | None]:
    """Keep a request, with this session's code revision after those of earlier sessions.

    Returns:
        The revisions, oldest first, each once in a row; None stands for one that is not known.
    """
    has_begun = any(not path.name.startswith(".") for path in file.parent.glob("*"))
    before = _read(file) if file.is_file() else {}
    revisions = of_sessions(REVISIONS, before if has_begun else None, git_revision())
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps({**request, REVISIONS: revisions}, indent=2) + "\n")
    return revisions


def _is_in(key: str, sections: Sequence[str]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _read(file: Path) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return stored
