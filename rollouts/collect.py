"""Plays episodes until every task has as many recordings as asked for.

The recordings do not depend on the number of workers or on interruptions: a task's are always its first so
many trials that are worth keeping. A trial without success is at once replaced by the next, up to a limit.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tqdm import tqdm

from vega_policy.rollouts.episode import Episode, EpisodeKey, Row, Task, episode_seed
from vega_policy.rollouts.folder import ResultsFolder
from vega_policy.rollouts.stage import Job
from vega_policy.rollouts.workers import Schedule, play


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

    def still_to_play(self, rows: Sequence[Row], underway: Collection[EpisodeKey]) -> list[Episode]:
        """The episodes to begin now; none when what is played and `underway` may be all that is needed."""
        return [episode for task in self.tasks for episode in self._next_trials(task, rows, underway)]

    def _next_trials(
        self, task: Task, rows: Sequence[Row], underway: Collection[EpisodeKey]
    ) -> list[Episode]:
        """The lowest trials not yet begun, as many as would be missing if all underway were good."""
        begun = {trial for *place, trial in underway if place == [task.suite, task.task_id]}
        missing = self.episodes - len(self.kept(task, rows)) - len(begun)
        begun |= {row.trial for row in rows if _is_of(row, task)}
        free = (trial for trial in range(self.max_trials) if trial not in begun)
        return [Episode(task, trial, seed=self._seed(task, trial)) for trial in islice(free, max(0, missing))]

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
    schedule, underway = Schedule(()), set[EpisodeKey]()

    def begin_more() -> None:
        for episode in wanted.still_to_play(list(folder.rows.values()), underway):
            schedule.put_back(episode)
            underway.add(episode.key)

    begin_more()
    workers = min(num_workers, len(underway))
    with _progress(wanted, folder) as bar:
        for row in play(
            schedule, job, num_workers=workers, time_limit_s=time_limit_s, on_built=folder.confirm_environment
        ):
            folder.append(row)
            underway.remove(row.key)
            begin_more()
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
