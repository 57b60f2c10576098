"""From `--suite`, `--task_ids` and the like to tasks and an environment factory of LIBERO."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vega_policy.envs.libero.env import LiberoEnv
    from vega_policy.rollouts.episode import Task


@dataclass(frozen=True)
class MakeLibero:
    """Environment factory; the arguments are those of `LiberoEnv`."""

    protocol: str
    assets: str
    strict: bool
    image_size_px: int = 256

    def __call__(self, task: "Task", images: bool) -> "LiberoEnv":
        """Look the task up; the simulation is built at the first reset."""
        from vega_policy.envs.libero.env import LiberoEnv

        return LiberoEnv(
            task.suite,
            task.task_id,
            protocol=self.protocol,
            assets=self.assets,
            image_size_px=self.image_size_px,
            images=images,
            strict=self.strict,
        )


def list_tasks(suites: str, task_ids: Sequence[int] | None) -> "list[Task]":
    """List the tasks of comma-separated suites, all of them or those with the given ids in each.

    Raises:
        ValueError: For an unknown suite, with the nearest name, a task id outside a suite, a task twice, or
            no task at all.
    """
    from vega_policy.envs.libero.tasks import find_task, suite_tasks
    from vega_policy.rollouts.episode import Task

    tasks = [
        Task(suite, task_id, find_task(suite, task_id).language)
        for suite in (name.strip() for name in suites.split(","))
        for task_id in (range(len(suite_tasks(suite))) if task_ids is None else task_ids)
    ]
    if not tasks:
        raise ValueError("expected at least one task, got --task_ids=[]")
    for index, task in enumerate(tasks):
        if task in tasks[:index]:
            raise ValueError(f"expected each task once, got {task.suite} task {task.task_id} twice")
    return tasks


def check_trials(make_env: MakeLibero, tasks: "Sequence[Task]", trials: range) -> None:
    """Find out in the parent, before any worker starts, what would make every episode an error.

    Raises:
        ValueError: If a task has fewer init states than the trials ask for.
        FileNotFoundError: If the assets asked for are nowhere.
        RuntimeError: If strict, and the installed mujoco changes results.
    """
    for task in tasks:
        available = len(make_env(task, images=False).init_states)
        if trials[-1] >= available:
            raise ValueError(
                f"expected --first_trial + --trials <= {available}, the number of init states of "
                f"{task.suite} task {task.task_id}, got {trials.stop}"
            )
