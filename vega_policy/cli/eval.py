"""`vega-eval`: closed-loop success rates in LIBERO, with intervals, films and a report.

Exit codes: 0 if every planned episode ended in success or failure, 1 if some ended in an error or the results
could not be kept, 2 if nothing was started because of a mistake in the request, 130 after Ctrl-C.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import draccus

from vega_policy.cli.conditions import differences, own_device, training_conditions
from vega_policy.cli.libero import MakeLibero, check_trials, list_tasks
from vega_policy.cli.parsing import parse
from vega_policy.cli.policies import WORKER_THREADS, PolicyConfig, located, policy_factory
from vega_policy.cli.program import two_steps
from vega_policy.cli.provenance import (
    checkpoint_sha256,
    device_name,
    git_revision,
    installed_versions,
    local_checkpoint,
)

if TYPE_CHECKING:
    from vega_policy.rollouts.episode import Episode
    from vega_policy.rollouts.folder import ResultsFolder
    from vega_policy.rollouts.stage import PolicyFactory

FREE_TO_CHANGE = ("output_dir", "resume", "num_workers", "episode_time_limit_s", "trials")
"""Options a resumed run may change: no row depends on them. There may only be more trials than before."""


@dataclass
class EvalConfig:
    """Run init states first_trial .. first_trial + trials - 1 of each task, writing results to a folder."""

    output_dir: Path  # episodes.jsonl, summary.json, report.html and videos/ go here
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    suite: str = "libero_spatial"  # one or more, separated by commas
    task_ids: list[int] | None = None  # e.g. [0,1]; all tasks of the suite if not given
    trials: int = 50  # episodes per task; LIBERO has 50 init states for most
    first_trial: int = 0  # init state of the first episode
    protocol: str = "oft"  # step limits: oft or lerobot
    assets: str = "auto"  # auto, official, standin or a folder
    image_size_px: int | None = None  # of both cameras; the size the policy was trained with, else 256
    num_workers: int = 1  # processes that play episodes side by side
    seed: int = 0  # from which the seed of each episode follows
    videos: int = 0  # film this many first trials of each task
    resume: bool = False  # continue the results in output_dir
    strict: bool = False  # refuse a mujoco version that changes results
    episode_time_limit_s: float = 600.0  # after this long without a decision a worker counts as hung

    def __post_init__(self) -> None:
        for name, least in {"trials": 1, "first_trial": 0, "num_workers": 1, "videos": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"expected --{name} >= {least}, got {getattr(self, name)}")
        if self.episode_time_limit_s <= 0:
            raise ValueError(f"expected --episode_time_limit_s > 0, got {self.episode_time_limit_s}")


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that has passed all checks and is ready to run."""

    episodes: "list[Episode]"
    make_env: MakeLibero
    make_policy: "PolicyFactory"
    folder: "ResultsFolder"
    provenance: dict[str, Any]


def prepare(config: EvalConfig) -> Evaluation:
    """Check everything that can be checked before the first episode.

    Raises:
        ValueError: For anything asked for that does not exist, or results that cannot be continued.
        OSError: If the results cannot be kept in `output_dir`, or assets are missing.
        RuntimeError: If strict, and the installed mujoco changes results.
    """
    from vega_policy.rollouts.evaluate import plan
    from vega_policy.rollouts.folder import VIDEO_BYTES, ResultsFolder

    policy, hashes = _pin(config.policy)
    make_policy = policy_factory(policy, num_threads=WORKER_THREADS)
    trained_with = training_conditions(policy.path)
    image_size_px = config.image_size_px or trained_with.get("image_size_px", 256)
    make_env = MakeLibero(config.protocol, config.assets, config.strict, image_size_px)
    tasks = list_tasks(config.suite, config.task_ids)
    trials = range(config.first_trial, config.first_trial + config.trials)
    check_trials(make_env, tasks, trials)
    episodes = plan(tasks, trials, config.seed, config.videos)
    resolved = draccus.encode(config)
    run = {
        "config": {key: value for key, value in resolved.items() if key not in FREE_TO_CHANGE},
        "versions": installed_versions(),
        "checkpoint_sha256": hashes,
    }
    folder = ResultsFolder(
        config.output_dir,
        run,
        resume=config.resume,
        num_episodes=len(episodes),
        film_bytes=VIDEO_BYTES * sum(episode.video is not None for episode in episodes),
        git_revision=git_revision(),
        device=device_name(policy.device or own_device(policy.path)),
    )
    _check_covers(episodes, folder)
    here = make_env(tasks[0], images=False).provenance()
    folder.confirm_environment(here)
    mismatches = differences(trained_with, here)
    for mismatch in mismatches:
        print(f"vega-eval: warning: {mismatch}", file=sys.stderr)
    provenance = {
        **run,
        "config": resolved,
        "trained_with": trained_with,
        "differs_from_training": mismatches,
    }
    return Evaluation(episodes, make_env, make_policy, folder, provenance)


def _check_covers(episodes: "Sequence[Episode]", folder: "ResultsFolder") -> None:
    """Refuse a plan that leaves out episodes that were played: a choice among results is no result."""
    left_out = folder.rows.keys() - {episode.key for episode in episodes}
    if left_out:
        raise ValueError(
            f"{folder.path} has {len(left_out)} episodes that this request leaves out: expected as many "
            "--trials as before, or more"
        )


def _pin(policy: PolicyConfig) -> tuple[PolicyConfig, dict[str, str] | None]:
    """The policy by its files on this disk, and their hashes; nothing to do for one that has no files."""
    if policy.path is None:
        return policy, None
    checkpoint = local_checkpoint(located(policy.path))
    return replace(policy, path=str(checkpoint)), checkpoint_sha256(checkpoint)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    config = parse(EvalConfig, argv, prog="vega-eval")
    go_on = f"--resume=true continues {config.output_dir}"
    return two_steps("vega-eval", partial(prepare, config), partial(run, config), go_on=go_on)


def run(config: EvalConfig, evaluation: Evaluation) -> int:
    """Play the episodes and print the table; returns the exit code."""
    from vega_policy.rollouts.evaluate import evaluate
    from vega_policy.rollouts.results import format_table

    summary = evaluate(
        evaluation.episodes,
        evaluation.make_env,
        evaluation.make_policy,
        evaluation.folder,
        num_workers=config.num_workers,
        time_limit_s=config.episode_time_limit_s,
        provenance=evaluation.provenance,
    )
    print(format_table(summary))
    print(f"report: {config.output_dir / 'report.html'}")
    return 0 if summary["comparable"] else 1


if __name__ == "__main__":
    sys.exit(main())
