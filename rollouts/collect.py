"""Plays episodes until every task has as many recordings as asked for.

The recordings do not depend on the number of workers or on interruptions: a task's are always its first so
many trials that are worth keeping. A trial without success is replaced by the next one, up to a limit.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from vega_policy.rollouts.episode import Episode, Row, Task, episode_seed
from vega_policy.rollouts.folder import ResultsFolder
from vega_policy.rollouts.stage import Job
from vega_policy.rollouts.workers import play


@dataclass(frozen=True)
class Wanted:
    """What to record of each task.

    Attributes:
        tasks: The tasks.
        episodes: Recordings per task.
        max_trials: Trials per task after which a task is given up.
        keep_failures: Whether an episode without success counts.
        base_seed: From which the seed of each episode follows.
    """

    tasks: Sequence[Task]
    episodes: int
    max_trials: int
    keep_failures: bool
    base_seed: int

    def kept(self, task: Task, rows: Iterable[Row]) -> list[Row]:
        """The task's episodes that are worth keeping, first trials first, never more than asked for."""
        outcomes = ("success", "failure") if self.keep_failures else ("success",)
        good = [row for row in rows if _is_of(row, task) and row.outcome in outcomes]
        return sorted(good, key=lambda row: row.trial)[: self.episodes]

    def next_round(self, rows: Sequence[Row]) -> list[Episode]:
        """The episodes to play next; none when every task is complete or given up."""
        return [episode for task in self.tasks for episode in self._next_trials(task, rows)]

    def _next_trials(self, task: Task, rows: Sequence[Row]) -> list[Episode]:
        """The lowest trials not yet played, as many as recordings are missing."""
        played = {row.trial for row in rows if _is_of(row, task)}
        missing = self.episodes - len(self.kept(task, rows))
        free = [trial for trial in range(self.max_trials) if trial not in played]
        return [Episode(task, trial, seed=self._seed(task, trial)) for trial in free[:missing]]

    def _seed(self, task: Task, trial: int) -> int:
        """Differs from the seed of the evaluation's episode of the same name."""
        return episode_seed(self.base_seed, f"collect/{task.suite}", task.task_id, trial)


def collect(
    wanted: Wanted, job: Job, folder: ResultsFolder, *, num_workers: int, time_limit_s: float
) -> Mapping[Task, list[Row]]:
    """Play what `folder` lacks.

    Args:
        wanted: What to record.
        job: Its environment factory gives `RecordingEnv`s that write below the folder.
        folder: Keeps a row per episode played.
        num_workers: Number of worker processes.
        time_limit_s: How long a worker may be silent, between two decisions say, before it is killed.

    Returns:
        The rows of the recordings to use, by task; fewer than asked for where a task was given up.

    Raises:
        ValueError: If an environment does not come from where those of the earlier recordings came from.
    """
    with _progress(wanted, folder) as bar:
        while episodes := wanted.next_round(list(folder.rows.values())):
            for row in play(
                episodes,
                job,
                num_workers=min(num_workers, len(episodes)),
                time_limit_s=time_limit_s,
                on_built=folder.confirm_environment,
            ):
                folder.append(row)
                _show(bar, wanted, folder)
    return {task: wanted.kept(task, folder.rows.values()) for task in wanted.tasks}


def _progress(wanted: Wanted, folder: ResultsFolder) -> "tqdm[Any]":
    total = len(wanted.tasks) * wanted.episodes
    return tqdm(total=total, initial=_num_kept(wanted, folder), unit="demonstration", smoothing=0)


def _show(bar: "tqdm[Any]", wanted: Wanted, folder: ResultsFolder) -> None:
    outcomes = [row.outcome for row in folder.rows.values()]
    failures, errors = outcomes.count("failure"), outcomes.count("error")
    bar.set_postfix_str(f"{failures} failures, {errors} errors", refresh=False)
    bar.update(_num_kept(wanted, folder) - bar.n)


def _num_kept(wanted: Wanted, folder: ResultsFolder) -> int:
    return sum(len(wanted.kept(task, folder.rows.values())) for task in wanted.tasks)


def _is_of(row: Row, task: Task) -> bool:
    return (row.suite, row.task_id) == (task.suite, task.task_id)
