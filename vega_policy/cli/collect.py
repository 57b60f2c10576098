"""`vega-collect`: demonstrations in LIBERO by the scripted expert, as a LeRobotDataset.

Objects are placed anew by each task's own rules; the official evaluation init states are never loaded.
Recordings gather in `<output_dir>.recordings`, where an interrupted run goes on with `--resume=true`; the
dataset is put together from them at the end.

A trial that ends in an error is told of and replaced by the next.

Exit codes: 0 if every task has all its demonstrations, 1 if some are missing or could not be kept, 2 if
nothing was started because of a mistake in the request, 130 after Ctrl-C.
"""

import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import draccus

from vega_policy.cli.conditions import differences, training_conditions
from vega_policy.cli.libero import list_tasks
from vega_policy.cli.parsing import parse
from vega_policy.cli.policies import WORKER_THREADS, MakeExpert, PolicyConfig, located, policy_factory
from vega_policy.cli.program import two_steps
from vega_policy.cli.provenance import checkpoint_sha256, git_revision, installed_versions, local_checkpoint

if TYPE_CHECKING:
    from vega_policy.rollouts.collect import Wanted
    from vega_policy.rollouts.demonstrator import MakeDemonstrator
    from vega_policy.rollouts.episode import Row, Task
    from vega_policy.rollouts.folder import ResultsFolder
    from vega_policy.rollouts.recording import RecordingEnv
    from vega_policy.training.demonstrations import Demonstration

FREE_TO_CHANGE = (
    "output_dir",
    "resume",
    "num_workers",
    "episode_time_limit_s",
    "episodes",
    "trials_per_episode",
)
"""Options a resumed run may change: no recording depends on them."""

LIMITS = {
    "episodes": (1, math.inf),
    "trials_per_episode": (1, math.inf),
    "image_size_px": (16, math.inf),
    "continue_after_success_s": (0, math.inf),
    "action_noise": (0, 2),
    "start_steps": (0, 50),
    "beta": (0.001, 1),
    "num_workers": (1, math.inf),
    "episode_time_limit_s": (1, math.inf),
}


@dataclass
class LearnerConfig:
    """For DAgger: a policy that the expert takes over from."""

    path: str | None = None  # checkpoint folder or Hub id; only the expert acts if not given
    device: str | None = None  # e.g. cuda; the checkpoint's own if not given


@dataclass
class CollectConfig:
    """Record demonstrations of each task and write them as a LeRobotDataset."""

    output_dir: Path  # the dataset's folder; recordings go to <output_dir>.recordings
    suite: str = "libero_spatial"  # one or more, separated by commas
    task_ids: list[int] | None = None  # e.g. [0,1]; all tasks of the suite if not given
    episodes: int = 50  # demonstrations per task
    trials_per_episode: int = 3  # a task is given up after this many times --episodes trials
    keep_failures: bool = False  # keep episodes without success too, instead of trying others
    image_size_px: int | None = None  # of both cameras, even; the learner's if not given, else 256
    continue_after_success_s: float = 1.5  # record on through release and retreat
    action_noise: float = 0.0  # standard deviation of what is added to executed actions, not to labels
    start_steps: int = 0  # before recording, move the arm at random for up to this many steps (1.2 cm each)
    policy: LearnerConfig = field(default_factory=LearnerConfig)
    beta: float = 0.1  # with --policy.path: chance that the expert takes over, at each of its decisions
    protocol: str = "oft"  # step limits: oft or lerobot
    assets: str = "auto"  # auto, official, standin or a folder
    strict: bool = False  # refuse a mujoco version that changes results
    seed: int = 0  # from which the seed of each episode follows
    num_workers: int = 1  # processes that record side by side
    resume: bool = False  # continue the recordings of an earlier run
    episode_time_limit_s: float = 600.0  # after this long an episode counts as hung

    def __post_init__(self) -> None:
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"expected --{name} in [{least}, {most}], got {value}")
        if self.image_size_px is not None and self.image_size_px % 2:
            raise ValueError(f"expected an even --image_size_px, for the films, got {self.image_size_px}")
        if self.policy.path is not None and self.keep_failures:
            raise ValueError(
                "expected --keep_failures=false with --policy.path: where the policy acted to the end there "
                "is nothing to learn from"
            )

    @property
    def recordings_dir(self) -> Path:
        """Where recordings gather."""
        return self.output_dir.with_name(f"{self.output_dir.name}.recordings")


@dataclass(frozen=True)
class MakeRecordedLibero:
    """Environment factory: LIBERO with random placements, recorded."""

    recordings_dir: Path
    protocol: str
    assets: str
    strict: bool
    image_size_px: int
    continue_after_success_s: float
    start_steps: int
    keep_failures: bool

    def __call__(self, task: "Task", images: bool) -> "RecordingEnv":
        """Look the task up; the simulation is built at the first reset."""
        from vega_policy.envs.libero.env import LiberoEnv
        from vega_policy.rollouts.recording import RecordingEnv
        from vega_policy.training.libero_data import FPS, libero_frame

        env = LiberoEnv(
            task.suite,
            task.task_id,
            protocol=self.protocol,
            assets=self.assets,
            image_size_px=self.image_size_px,
            images=images,
            steps_after_success=round(self.continue_after_success_s * FPS),
            strict=self.strict,
        )
        return RecordingEnv(
            env,
            task_folder(self.recordings_dir, task),
            libero_frame,
            frames_per_s=FPS,
            reset_options={"placement": "random"},
            start_steps=self.start_steps,
            keep_failures=self.keep_failures,
        )


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
    checkpoint = None if config.policy.path is None else local_checkpoint(located(config.policy.path))
    trained_with = training_conditions(None if checkpoint is None else str(checkpoint))
    config = replace(config, image_size_px=config.image_size_px or trained_with.get("image_size_px", 256))
    tasks = list_tasks(config.suite, config.task_ids)
    max_trials = config.episodes * config.trials_per_episode
    wanted = Wanted(tasks, config.episodes, max_trials, config.keep_failures, config.seed)
    make_env = _make_env(config)
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
        num_videos=num_episodes,
        git_revision=git_revision(),
    )
    provenance = {**run, "config": resolved, "git_revisions": folder.git_revisions}
    return Collection(config, wanted, make_env, _demonstrator(config, checkpoint), folder, provenance)


def _check_place(config: CollectConfig) -> None:
    """Refuse to take the place of a dataset that these recordings did not make.

    Raises:
        FileExistsError: There is one; it is left as it is.
    """
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


def _make_env(config: CollectConfig) -> MakeRecordedLibero:
    assert config.image_size_px is not None, "`prepare` has chosen one"
    return MakeRecordedLibero(
        config.recordings_dir,
        config.protocol,
        config.assets,
        config.strict,
        config.image_size_px,
        config.continue_after_success_s,
        config.start_steps,
        config.keep_failures,
    )


def _demonstrator(config: CollectConfig, checkpoint: Path | None) -> "MakeDemonstrator":
    """Who acts: the expert, or a learner with these files before it."""
    from vega_policy.rollouts.demonstrator import Disturbance, MakeDemonstrator

    disturbance = Disturbance(config.action_noise, config.beta)
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
    provenance = {**collection.provenance, "environment": collection.folder.environment}
    _tell_errors(collection.folder)
    write(config, kept, provenance)
    return _report(config, kept, collection.folder)


def write(config: CollectConfig, kept: "Mapping[Task, Sequence[Row]]", provenance: Mapping[str, Any]) -> None:
    """Put the dataset together, task by task.

    Raises:
        ValueError: If no episode was worth keeping.
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


def _report(config: CollectConfig, kept: "Mapping[Task, Sequence[Row]]", folder: "ResultsFolder") -> int:
    played = Counter((row.suite, row.task_id) for row in folder.rows.values())
    incomplete = {task: rows for task, rows in kept.items() if len(rows) < config.episodes}
    for task, rows in incomplete.items():
        print(
            f"vega-collect: {task.suite} task {task.task_id} ({task.name}): {len(rows)} of {config.episodes} "
            f"demonstrations after {played[task.suite, task.task_id]} trials",
            file=sys.stderr,
        )
    print(f"dataset: {config.output_dir} ({sum(map(len, kept.values()))} demonstrations)")
    return 1 if incomplete else 0


def task_folder(recordings_dir: Path, task: "Task") -> Path:
    """Where the recordings of a task are."""
    return recordings_dir / f"{task.suite}_task{task.task_id:02d}"


if __name__ == "__main__":
    sys.exit(main())
