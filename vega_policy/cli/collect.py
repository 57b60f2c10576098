"""`vega-collect`: demonstrations in LIBERO by the scripted expert, as a LeRobotDataset.

Objects are placed anew by each task's own rules; the official evaluation init states are never used.
Recordings gather in `<output_dir>.recordings`, where an interrupted run goes on with `--resume=true`; the
dataset is put together from them at the end.

A trial that ends in an error is told of and replaced by the next.

Exit codes: 0 if every task has all its demonstrations, 1 if some are missing or could not be kept, 2 if
nothing was started because of a mistake in the request, 130 after Ctrl-C.
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import draccus

from vega_policy.cli.collect_config import FREE_TO_CHANGE, CollectConfig, MakeRecordedLibero, task_folder
from vega_policy.cli.conditions import differences, own_device, training_conditions
from vega_policy.cli.libero import list_tasks
from vega_policy.cli.parsing import parse
from vega_policy.cli.policies import WORKER_THREADS, YAML, MakeExpert, PolicyConfig, located, policy_factory
from vega_policy.cli.program import STOPPED, two_steps
from vega_policy.cli.provenance import (
    checkpoint_sha256,
    device_name,
    git_revision,
    installed_versions,
    local_checkpoint,
)
from vega_policy.training.libero_data import IMAGE_KEYS

if TYPE_CHECKING:
    from vega_policy.rollouts.collect import Wanted
    from vega_policy.rollouts.demonstrator import MakeDemonstrator
    from vega_policy.rollouts.episode import Row, Task
    from vega_policy.rollouts.folder import ResultsFolder
    from vega_policy.training.demonstrations import Demonstration

EPISODE_STEPS, PIXEL_BYTES = 200, 0.12
"""For the estimate of space: a long episode, and a pixel of an H.264 film of 128 px (docs/data.md)."""


@dataclass(frozen=True)
class Collection:
    """A collection that has passed all checks and is ready to run; in `config` every size is known."""

    config: CollectConfig
    wanted: "Wanted"
    make_env: MakeRecordedLibero
    make_policy: "MakeDemonstrator"
    folder: "ResultsFolder"
    provenance: dict[str, Any]


def prepare(config: CollectConfig) -> Collection:
    """Check everything that can be checked before the first episode.

    Raises:
        ValueError: For anything asked for that does not exist, or recordings that cannot be continued.
        OSError: If the recordings cannot be kept, or assets are missing.
        RuntimeError: If strict, and the installed mujoco changes results.
    """
    from vega_policy.rollouts.collect import Wanted
    from vega_policy.rollouts.folder import ResultsFolder

    _check_place(config)
    checkpoint = _learner_files(config)
    learner = None if checkpoint is None else str(checkpoint)
    trained_with = training_conditions(learner)
    config = replace(config, image_size_px=config.image_size_px or trained_with.get("image_size_px", 256))
    tasks = list_tasks(config.suite, config.task_ids)
    max_trials = config.episodes * config.trials_per_episode
    wanted = Wanted(tasks, config.episodes, max_trials, config.keep_failures, config.seed)
    make_env = MakeRecordedLibero(config)
    envs = [make_env(task, images=False) for task in tasks]
    mismatches = differences(trained_with, envs[0].unwrapped.provenance())  # type: ignore[attr-defined]
    for warning in [*mismatches, *_lost_history(checkpoint)]:
        print(f"vega-collect: warning: {warning}", file=sys.stderr)
    resolved = draccus.encode(config)
    run = {
        "config": {key: value for key, value in resolved.items() if key not in FREE_TO_CHANGE},
        "versions": installed_versions(),
        "checkpoint_sha256": None if checkpoint is None else checkpoint_sha256(checkpoint),
    }
    num_episodes = len(tasks) * config.episodes
    folder = ResultsFolder(
        config.recordings_dir,
        run,
        resume=config.resume,
        num_episodes=num_episodes,
        film_bytes=_film_bytes(config, num_episodes),
        git_revision=git_revision(),
        device=device_name(config.policy.device or own_device(learner)),
    )
    provenance = {**run, "config": resolved}
    return Collection(config, wanted, make_env, _demonstrator(config, checkpoint), folder, provenance)


def _learner_files(config: CollectConfig) -> Path | None:
    """The folder of the policy that acts first, if there is one.

    Raises:
        ValueError: There is no checkpoint where it is said to be.
    """
    path = config.policy.path
    if path is None:
        return None
    if Path(path).suffix in YAML:
        raise ValueError(f"expected a trained policy in --policy.path, got {path}")
    return local_checkpoint(located(path))


def _film_bytes(config: CollectConfig, num_episodes: int) -> int:
    """What the films may take that are still to come: as recordings, and all of them in the dataset again."""
    assert config.image_size_px is not None, "`prepare` has chosen one"
    recorded = sum(1 for _ in config.recordings_dir.glob("*/trial*"))
    if recorded >= num_episodes and config.output_dir.exists():
        return 0
    num_films = max(num_episodes - recorded, 0) + num_episodes
    return round(num_films * EPISODE_STEPS * len(IMAGE_KEYS) * config.image_size_px**2 * PIXEL_BYTES)


def _check_place(config: CollectConfig) -> None:
    """Refuse to take the place of a dataset that these recordings did not make.

    Raises:
        FileExistsError: There is one, or a link; it is left as it is.
    """
    if config.output_dir.is_symlink():
        raise FileExistsError(f"{config.output_dir} is a link, name the folder itself")
    if not config.output_dir.exists():
        return
    if not config.resume:
        raise FileExistsError(
            f"{config.output_dir} exists already; record more for it with --resume=true, or choose another "
            "--output_dir"
        )
    if not (config.recordings_dir / "episodes.jsonl").is_file():
        raise FileExistsError(
            f"{config.output_dir} exists, but the recordings that it was made of are not in "
            f"{config.recordings_dir}: choose another --output_dir, and put the datasets together afterwards "
            "with python -m vega_policy.cli.merge"
        )
    if not _is_made_of(config.output_dir, config.recordings_dir):
        raise FileExistsError(
            f"{config.output_dir} exists, and was not made of the recordings in {config.recordings_dir}: "
            "choose another --output_dir, or put this dataset elsewhere"
        )


def _is_made_of(dataset: Path, recordings_dir: Path) -> bool:
    """Whether a dataset tells of the same settings as the recordings; one that was merged tells of none."""
    from vega_policy.training.demonstrations import read_provenance

    told = read_provenance(dataset).get("config", {})
    recorded = json.loads((recordings_dir / "run.json").read_text(encoding="utf-8"))["config"]
    return all(told.get(name) == value for name, value in recorded.items())


def _lost_history(checkpoint: Path | None) -> list[str]:
    """What to warn of when a learner reads clips."""
    stored = {} if checkpoint is None else json.loads((checkpoint / "config.json").read_text())
    frames = stored.get("simulator", {}).get("clip_length", 1)
    if frames == 1:
        return []
    return [
        f"the policy reads clips of {frames} pictures, but a recording begins where the expert takes over: "
        "its first clips are filled with its first picture, as at the start of an episode"
    ]


def _demonstrator(config: CollectConfig, checkpoint: Path | None) -> "MakeDemonstrator":
    """Who acts: the expert, or a learner with these files before it."""
    from vega_policy.rollouts.demonstrator import Disturbance, MakeDemonstrator

    disturbance = Disturbance(
        action_noise=config.action_noise, kicks=config.kicks, beta=config.beta, rescue=config.rescue
    )
    if checkpoint is None:
        return MakeDemonstrator(MakeExpert(), None, disturbance)
    learner = PolicyConfig(path=str(checkpoint), device=config.policy.device)
    return MakeDemonstrator(MakeExpert(), policy_factory(learner, num_threads=WORKER_THREADS), disturbance)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    config = parse(CollectConfig, argv, prog="vega-collect")
    return two_steps("vega-collect", partial(prepare, config), run)


def run(collection: Collection) -> int:
    """Record, write the dataset and say what is missing; returns the exit code."""
    from vega_policy.rollouts.collect import collect
    from vega_policy.rollouts.stage import Job

    config = collection.config
    kept = collect(
        collection.wanted,
        Job(collection.make_env, collection.make_policy, config.recordings_dir),
        collection.folder,
        num_workers=config.num_workers,
        time_limit_s=config.episode_time_limit_s,
    )
    folder = collection.folder
    _tell_errors(folder)
    is_complete = _tell_missing(config, kept, folder)
    if not any(kept.values()):
        print("vega-collect: no demonstration was kept, and no dataset is written", file=sys.stderr)
        return STOPPED
    if not _holds(config.output_dir, kept):
        write(config, kept, {**collection.provenance, **folder.sessions, "environment": folder.environment})
    print(f"dataset: {config.output_dir} ({sum(map(len, kept.values()))} demonstrations)")
    return 0 if is_complete else STOPPED


def _holds(dataset: Path, kept: "Mapping[Task, Sequence[Row]]") -> bool:
    """Whether they are in a dataset already: who trains from it would see new files if it was made anew."""
    from vega_policy.training.demonstrations import read_provenance

    told = read_provenance(dataset).get("episodes", [])
    wanted = [(task.suite, task.task_id, row.trial) for task, rows in kept.items() for row in rows]
    return [(episode["suite"], episode["task_id"], episode["trial"]) for episode in told] == wanted


def write(config: CollectConfig, kept: "Mapping[Task, Sequence[Row]]", provenance: Mapping[str, Any]) -> None:
    """Put the dataset together, task by task.

    Raises:
        FileExistsError: If `output_dir` holds something else than such a dataset.
    """
    from vega_policy.training.demonstrations import write_dataset

    assert config.image_size_px is not None, "`prepare` has chosen one"
    demonstrations = [
        _demonstration(config.recordings_dir, task, row) for task, rows in kept.items() for row in rows
    ]
    write_dataset(config.output_dir, demonstrations, config.image_size_px, provenance)


def _demonstration(recordings_dir: Path, task: "Task", row: "Row") -> "Demonstration":
    from vega_policy.rollouts.recording import read_recording, recording_path
    from vega_policy.training.demonstrations import Demonstration

    recording = read_recording(recording_path(task_folder(recordings_dir, task), row.trial))
    facts = {"suite": task.suite, "task_id": task.task_id, "task": task.name, "trial": row.trial}
    return Demonstration(
        task.name, recording.columns, recording.films, recording.histograms, {**facts, **recording.facts}
    )


def _tell_errors(folder: "ResultsFolder") -> None:
    errors = [row.error for row in folder.rows.values() if row.outcome == "error"]
    if errors:
        print(
            f"vega-collect: {len(errors)} trials ended in an error, the last:\n{errors[-1]}", file=sys.stderr
        )


def _tell_missing(
    config: CollectConfig, kept: "Mapping[Task, Sequence[Row]]", folder: "ResultsFolder"
) -> bool:
    """Say which tasks have fewer demonstrations than asked for; returns whether none has."""
    played = Counter((row.suite, row.task_id) for row in folder.rows.values())
    incomplete = {task: rows for task, rows in kept.items() if len(rows) < config.episodes}
    for task, rows in incomplete.items():
        print(
            f"vega-collect: {task.suite} task {task.task_id} ({task.name}): {len(rows)} of {config.episodes} "
            f"demonstrations after {played[task.suite, task.task_id]} trials",
            file=sys.stderr,
        )
    return not incomplete


if __name__ == "__main__":
    sys.exit(main())
