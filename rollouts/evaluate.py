"""Plan, play, keep, sum up: closed-loop evaluation in a folder that can be resumed at any point."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from vega_policy.rollouts.episode import Episode, Row, Task, episode_seed
from vega_policy.rollouts.folder import ResultsFolder
from vega_policy.rollouts.recorders import video_name
from vega_policy.rollouts.report.render import render_report
from vega_policy.rollouts.results import Summary, measure_throughput, summarise
from vega_policy.rollouts.stage import EnvFactory, Job, PolicyFactory
from vega_policy.rollouts.workers import Schedule, play


def plan(tasks: Iterable[Task], trials: range, base_seed: int, num_videos: int) -> list[Episode]:
    """List the episodes of an evaluation; the first `num_videos` trials of each task are filmed."""
    return [
        Episode(
            task,
            trial,
            seed=episode_seed(base_seed, task.suite, task.task_id, trial),
            video=video_name(task, trial) if index < num_videos else None,
        )
        for task in tasks
        for index, trial in enumerate(trials)
    ]


def evaluate(
    episodes: Sequence[Episode],
    make_env: EnvFactory,
    make_policy: PolicyFactory,
    folder: ResultsFolder,
    *,
    num_workers: int,
    time_limit_s: float,
    provenance: Mapping[str, Any],
) -> Summary:
    """Play the episodes that `folder` lacks, then write `summary.json` and `report.html`.

    Both are also written when the run ends early, by Ctrl-C for example; they then say what is missing.

    Args:
        episodes: The whole plan.
        make_env: Picklable factory of environments.
        make_policy: Picklable factory of policies.
        folder: Where the results are and go.
        num_workers: Number of worker processes.
        time_limit_s: How long a worker may be silent, between two decisions say, before it is killed.
        provenance: What identifies the run; what the environments say of themselves is added.

    Returns:
        The summary, as in `summary.json`.

    Raises:
        ValueError: If an environment does not come from where those of the earlier results came from.
    """
    pending = [episode for episode in episodes if episode.key not in folder.rows]
    num_workers = min(num_workers, len(pending))
    played: list[Row] = []
    started_s = time.monotonic()
    job = Job(make_env, make_policy, folder.path)
    try:
        with _progress(episodes, folder) as bar:
            for row in play(
                Schedule(pending),
                job,
                num_workers=num_workers,
                time_limit_s=time_limit_s,
                on_built=folder.confirm_environment,
            ):
                folder.append(row)
                played.append(row)
                bar.set_postfix_str(_standing(folder.rows.values()), refresh=False)
                bar.update()
    finally:
        elapsed_s = time.monotonic() - started_s
        throughput = measure_throughput(played, elapsed_s, num_workers) if played else None
        summary = _conclude(folder, episodes, throughput or folder.last_throughput(), provenance)
    return summary


def _conclude(
    folder: ResultsFolder,
    episodes: Sequence[Episode],
    throughput: Mapping[str, Any] | None,
    provenance: Mapping[str, Any],
) -> Summary:
    rows = folder.rows.values()
    summary = summarise(rows, episodes, throughput, {**provenance, **folder.sessions, **folder.environment})
    folder.write("summary.json", json.dumps(summary, indent=2) + "\n")
    folder.write("report.html", render_report(summary, rows))
    return summary


def _progress(episodes: Sequence[Episode], folder: ResultsFolder) -> "tqdm[Any]":
    return tqdm(
        total=len(episodes), initial=len(folder.rows), unit="episode", dynamic_ncols=True, smoothing=0
    )


def _standing(rows: Iterable[Row]) -> str:
    outcomes = [row.outcome for row in rows]
    played = len(outcomes) - outcomes.count("error")
    errors = f", {outcomes.count('error')} errors" if "error" in outcomes else ""
    return f"success {outcomes.count('success')}/{played}{errors}"
