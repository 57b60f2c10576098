"""The results folder: refuses trouble before the first episode, keeps every row as soon as there is one.

`run.json` holds what the results depend on (resolved configuration, versions, checkpoint hash, what the
environment says of itself); resuming under anything else would mix two experiments and is refused. The code
revision may change from session to session; `run.json` lists them.
`episodes.jsonl` grows by one synced line per episode; a line torn by a crash is dropped on resume and its
episode played again, and so are errors.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vega_policy.rollouts.episode import EpisodeKey, Row
from vega_policy.rollouts.files import lock_folder, write_atomically
from vega_policy.rollouts.settings import changes

SPARE_BYTES = 32 * 2**20  # summary, report and other programs' needs
ROW_BYTES = 4 * 2**10  # a row with a traceback
VIDEO_BYTES = 4 * 2**20  # 520 frames of 256 x 256 px take 1-2 MB as H.264

TASK_KEYS = ("suite", "task_id", "task", "max_steps")
"""What an environment says of its task; the rest of what it says must be the same for all."""

PLACE_KEYS = ("assets_folder",)
"""What it says of this disk: recorded, but free to change, since a hash says what is there."""

REVISIONS, DEVICES = "git_revisions", "devices"


class ResultsFolder:
    """Rows and documents of one evaluation.

    Args:
        path: The folder; made if it does not exist.
        run: JSON-like mapping of all that the results depend on.
        resume: Continue the results that are there; otherwise the folder must hold none.
        num_episodes: Planned episodes, for the estimate of space.
        film_bytes: What the planned films may take, likewise.
        git_revision: This session's code revision; None if it is not known.
        device: What this session's policies compute on, likewise.

    Raises:
        OSError: If the folder cannot be written to or the disk is too full.
        FileExistsError: If there are results and `resume` is not set, or another process writes there.
        ValueError: If `run` differs from that of the results to resume; the message lists the differences.
    """

    def __init__(
        self,
        path: Path,
        run: Mapping[str, Any],
        *,
        resume: bool,
        num_episodes: int,
        film_bytes: int,
        git_revision: str | None = None,
        device: str | None = None,
    ) -> None:
        self.path = path
        self._rows_path, self._run_path = path / "episodes.jsonl", path / "run.json"
        self.rows: dict[EpisodeKey, Row] = {}
        _check_writable(path)
        self._lock = lock_folder(path)
        _check_space(path, SPARE_BYTES + num_episodes * ROW_BYTES + film_bytes)
        self._run = json.loads(json.dumps(run))
        self._stored = self._continue(resume) if self._rows_path.exists() else None
        for about in (REVISIONS, DEVICES):
            self._run[about] = [] if self._stored is None else self._stored.get(about, [None])
        self._session = {REVISIONS: git_revision, DEVICES: device}
        self._has_begun = False

    @property
    def environment(self) -> Mapping[str, Any]:
        """What the environment says of its origin; empty until the first one was built."""
        return self._run.get("environment", {})

    @property
    def sessions(self) -> Mapping[str, list[str | None]]:
        """Code revisions and devices of all sessions that played, oldest first; None stands for unknown."""
        return {about: list(self._run[about]) for about in (REVISIONS, DEVICES)}

    def append(self, row: Row) -> None:
        """Add a row, on the disk when this returns."""
        if not self._has_begun:
            self._begin()
        with self._rows_path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(row)) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.rows[row.key] = row

    def confirm_environment(self, provenance: Mapping[str, Any]) -> None:
        """Record what an environment says of its origin.

        Raises:
            ValueError: If an earlier environment of these results said otherwise.
        """
        origin = {key: value for key, value in provenance.items() if key not in TASK_KEYS}
        provenance = json.loads(json.dumps(origin))
        if "environment" in self._run:
            before, now = ({"environment": _placeless(said)} for said in (self.environment, provenance))
            _refuse_changes(before, now, self.path)
        else:
            self._run["environment"] = provenance
            if self._has_begun:
                self._save_run()

    def last_throughput(self) -> Mapping[str, Any] | None:
        """Throughput of the session before; a session that finds nothing to play has none of its own."""
        path = self.path / "summary.json"
        return json.loads(path.read_text(encoding="utf-8"))["throughput"] if path.exists() else None

    def write(self, name: str, text: str) -> None:
        """Write a document so that it is never seen half-written."""
        write_atomically(self.path / name, text)

    def _continue(self, resume: bool) -> Mapping[str, Any]:
        """Take up the results that are there; gives what `run.json` said."""
        if not resume:
            raise FileExistsError(
                f"{self.path} already holds results; continue them with --resume=true or choose another "
                "--output_dir"
            )
        stored = json.loads(self._run_path.read_text(encoding="utf-8"))
        present = dict(self._run)
        if "environment" in stored:
            self._run["environment"] = stored["environment"]
        told = ("environment", REVISIONS, DEVICES)
        comparable = {key: value for key, value in stored.items() if key not in told}
        _refuse_changes(comparable, present, self.path)
        rows = [row for row in read_rows(self._rows_path) if row.outcome != "error"]
        self.rows = {row.key: row for row in rows}
        return dict(stored)

    def _begin(self) -> None:
        """Note that this session plays something; until then nothing that is there is changed."""
        for about, now in self._session.items():
            self._run[about] = of_sessions(about, self._stored, now)
        self._has_begun = True
        self._save_run()
        if self._stored is not None:  # without errors and a torn line
            lines = [json.dumps(asdict(row)) + "\n" for row in self.rows.values()]
            write_atomically(self._rows_path, "".join(lines))

    def _save_run(self) -> None:
        self.write(self._run_path.name, json.dumps(self._run, indent=2) + "\n")


def of_sessions(key: str, before: Mapping[str, Any] | None, now: str | None) -> list[str | None]:
    """Something about each of a run's sessions, their code revisions say, with that of one more.

    Args:
        key: Where the list is stored.
        before: What is stored of the earlier sessions; None before the first. One without a list is older
            than the list, and what it was is not known.
        now: This session's.
    """
    known = [] if before is None else before.get(key, [None])
    return known if known[-1:] == [now] else [*known, now]


def read_rows(path: Path) -> list[Row]:
    """Read `episodes.jsonl`, leaving out a last line torn by a crash.

    Raises:
        ValueError: If another line is broken.
    """
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = []
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and not line.endswith("\n"):
            break
        try:
            rows.append(Row(**json.loads(line)))
        except (json.JSONDecodeError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number} is not an episode ({error}); remove it to go on"
            ) from error
    return rows


def _check_writable(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_atomically(path / ".write_test", "can results be kept here?\n")
        (path / ".write_test").unlink()
    except OSError as error:
        reason = f"cannot write results to {path} ({error.strerror}); choose another --output_dir"
        raise OSError(reason) from error


def _placeless(said: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in said.items() if key not in PLACE_KEYS}


def _check_space(path: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(path).free
    free, needed = (f"{size / 2**20:.0f} MiB" for size in (free_bytes, needed_bytes))
    if free_bytes < needed_bytes:
        raise OSError(
            f"{path} has {free} left and this run may need {needed}; "
            "free some, ask for fewer films or episodes, or choose another --output_dir"
        )


def _refuse_changes(stored: Mapping[str, Any], present: Mapping[str, Any], path: Path) -> None:
    differing = [f"{key}: {change}" for key, change in changes(stored, present).items()]
    if differing:
        raise ValueError(
            f"the results in {path} were made under other conditions; "
            "undo these or choose another --output_dir:\n  " + "\n  ".join(differing)
        )
