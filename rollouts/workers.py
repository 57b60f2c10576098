"""Worker processes: each plays one episode at a time, and its loss costs at most that episode.

A simulator can raise, hang in native code or be killed for memory, so every worker is a spawned process that
the parent watches: it must be heard from within the time limit, when its environment is made, at each
decision and when the episode ends. An episode that goes wrong is tried once more, then recorded as an error;
the run goes on with a new process. Building an environment takes seconds, so a worker keeps its last one and
its task.
"""

import contextlib
import multiprocessing
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import Any

from vega_policy.rollouts.episode import Episode, EpisodeKey, Row, Task, error_row
from vega_policy.rollouts.stage import Built, Job, Message, serve

ATTEMPTS = 2  # an episode is played again once
STARTUP_S = 300.0  # for a new process to import what it needs, on a busy machine with cold disks
HOPELESS = 5  # errors in a row from the start after which a run is given up
FAREWELL_S = 5.0  # for an idle worker to close its environment


class AllFailingError(ValueError):
    """What all episodes share, the policy say, cannot be used."""


class Schedule:
    """Episodes still to be given out, by task."""

    def __init__(self, episodes: Iterable[Episode]) -> None:
        self._waiting: dict[Task, deque[Episode]] = {}
        for episode in episodes:
            self.put_back(episode)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put_back(self, episode: Episode) -> None:
        """Queue an episode behind the others of its task."""
        self._waiting.setdefault(episode.task, deque()).append(episode)

    def take(self, task: Task | None, busy: set[Task]) -> Episode:
        """Take an episode of `task` if there is one, else of the longest task that nobody is busy with."""
        if task not in self._waiting:
            task = max(self._waiting, key=lambda other: (other not in busy, len(self._waiting[other])))
        queue = self._waiting[task]
        episode = queue.popleft()
        if not queue:
            del self._waiting[task]
        return episode


def play(
    schedule: Schedule,
    job: Job,
    *,
    num_workers: int,
    time_limit_s: float,
    on_built: Callable[[Mapping[str, Any]], None],
) -> Iterator[Row]:
    """Play episodes in worker processes and yield each row as soon as its episode ends.

    Args:
        schedule: The episodes, in any order; the rows do not depend on it. After each row more may be put
            in.
        job: Factories of environment and policy.
        num_workers: Number of processes.
        time_limit_s: How long a worker may be silent before it is killed.
        on_built: Called with the provenance of every environment that is built. What it raises ends the run.

    Yields:
        A row for each episode, in the order in which they end. Closing the generator stops the workers.

    Raises:
        AllFailingError: None of the first episodes came to an end: nobody waits for thousands more.
    """
    attempts = Counter[EpisodeKey]()
    errors: list[Row] | None = []
    workers = [_Worker(job) for _ in range(num_workers)]
    try:
        while schedule or any(worker.episode for worker in workers):
            _hand_out(schedule, workers)
            for worker, message in _listen(workers, time_limit_s):
                if isinstance(message, Built):
                    on_built(message.provenance)
                elif isinstance(message, Row):
                    episode = worker.release()
                    attempts[episode.key] += 1
                    if message.outcome == "error" and attempts[episode.key] < ATTEMPTS:
                        schedule.put_back(episode)
                    else:
                        yield message
                        errors = _still_all_errors(errors, message)
    finally:
        for worker in workers:
            worker.stop()


def _still_all_errors(errors: list[Row] | None, row: Row) -> list[Row] | None:
    """The episodes so far if all were errors, None once one was not."""
    if errors is None or row.outcome != "error":
        return None
    errors = [*errors, row]
    if len(errors) == HOPELESS:
        raise AllFailingError(f"the first {HOPELESS} episodes all ended in an error, the last:\n{row.error}")
    return errors


class _Worker:
    """The parent's side of a worker process."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.task: Task | None = None
        self.episode: Episode | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, self._job), daemon=True)
        with _interrupts_blocked():
            self.process.start()
        theirs.close()
        self.ready = False

    def give(self, episode: Episode) -> None:
        self.task, self.episode = episode.task, episode
        self.given_s = self.heard_s = time.monotonic()
        with contextlib.suppress(OSError):  # a dead worker is noticed when it is listened to
            self.connection.send(episode)

    def release(self) -> Episode:
        assert self.episode is not None
        episode, self.episode = self.episode, None
        return episode

    def deadline_s(self, time_limit_s: float) -> float:
        """When to give up on the process, on the clock of `time.monotonic`."""
        return self.heard_s + (time_limit_s if self.ready else STARTUP_S)

    def receive(self) -> Message:
        """Return the waiting message; after an error, or if the worker has died, the process is a new one."""
        self.heard_s, self.ready = time.monotonic(), True
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            return self.replace(f"the worker process died with exit code {self.process.exitcode}")
        if isinstance(message, Row) and message.outcome == "error":
            self._renew()
        return message

    def replace(self, reason: str) -> Row:
        """Kill the process, start another, and return the row of the episode that was lost."""
        self._renew()
        assert self.episode is not None
        return error_row(self.episode, reason, wall_s=time.monotonic() - self.given_s)

    def stop(self) -> None:
        if self.episode is None:
            with contextlib.suppress(OSError):
                self.connection.send(None)
            self.process.join(FAREWELL_S)
        self._kill()

    def _renew(self) -> None:
        self._kill()
        self._start()
        self.task = None

    def _kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _hand_out(schedule: Schedule, workers: list[_Worker]) -> None:
    for worker in workers:
        if worker.episode is None and schedule:
            busy = {other.task for other in workers if other.episode is not None and other.task is not None}
            worker.give(schedule.take(worker.task, busy))


def _listen(workers: list[_Worker], time_limit_s: float) -> Iterator[tuple[_Worker, Message]]:
    """Wait until something happens; yield what workers said, or that they were silent for too long."""
    listening = [worker for worker in workers if worker.episode is not None]
    patience_s = min(worker.deadline_s(time_limit_s) for worker in listening) - time.monotonic()
    ready = wait([worker.connection for worker in listening], timeout=max(0.0, patience_s))
    for worker in listening:
        if worker.connection in ready:
            yield worker, worker.receive()
        elif time.monotonic() >= worker.deadline_s(time_limit_s):
            silent_s = time.monotonic() - worker.heard_s
            yield worker, worker.replace(f"no sign of life for {silent_s:.0f} s; the worker was killed")


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Children started inside never see Ctrl-C: the terminal sends it to all, the parent alone decides."""
    resource_tracker.ensure_running()  # which would unblock the signal if it had to start later
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
