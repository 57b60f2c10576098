"""LIBERO's suites, tasks and evaluation init states, read without unpickling arbitrary code.

Task ids are positions in LIBERO's default task order; the instruction is LIBERO's own (taken from the file
name), which is what every published policy was trained and evaluated with.
"""

import codecs
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core.multiarray import _reconstruct
from numpy.typing import NDArray

from vega_policy.envs.libero.installation import import_libero, libero_folder, quiet
from vega_policy.envs.libero.naming import unknown_name

SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")


@dataclass(frozen=True)
class LiberoTask:
    """One task of a suite.

    Attributes:
        suite: The suite's name.
        task_id: The task's position in the suite.
        name: LIBERO's name of the task.
        language: The instruction.
        bddl_file: The file with scene and goal.
        init_states_file: The file with the evaluation's init states.
    """

    suite: str
    task_id: int
    name: str
    language: str
    bddl_file: Path
    init_states_file: Path


@functools.cache
def suite_tasks(suite: str) -> tuple[LiberoTask, ...]:
    """All tasks of a suite.

    Raises:
        ValueError: For an unknown suite; the message names the nearest.
    """
    if suite not in SUITES:
        raise unknown_name("suite", suite, SUITES)
    benchmark = import_libero("libero.libero.benchmark")
    with quiet():
        tasks = benchmark.get_benchmark(suite)().tasks
    bddl, states = libero_folder("bddl_files"), libero_folder("init_states")
    return tuple(
        LiberoTask(
            suite=suite,
            task_id=task_id,
            name=task.name,
            language=task.language,
            bddl_file=bddl / task.problem_folder / task.bddl_file,
            init_states_file=states / task.problem_folder / task.init_states_file,
        )
        for task_id, task in enumerate(tasks)
    )


def find_task(suite: str, task_id: int) -> LiberoTask:
    """One task.

    Raises:
        ValueError: For an unknown suite or a task id outside it.
    """
    tasks = suite_tasks(suite)
    if not 0 <= task_id < len(tasks):
        raise ValueError(f"task id {task_id} is outside {suite}, which has tasks 0..{len(tasks) - 1}")
    return tasks[task_id]


def load_init_states(task: LiberoTask) -> NDArray[np.float64]:
    """The evaluation's init states of a task.

    Returns:
        Shape (trials, 1 + nq + nv): time in s, then MuJoCo's qpos and qvel of the whole scene.

    Raises:
        FileNotFoundError: If LIBERO's init files are not installed.
        pickle.UnpicklingError: If the file names anything but NumPy's four array globals.
    """
    import torch

    with torch.serialization.safe_globals(_numpy_globals()):
        states = torch.load(task.init_states_file, weights_only=True)
    return np.asarray(states, dtype=np.float64)


def _numpy_globals() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What a pickled float64 array names; the files were written by NumPy 1, hence the old module name."""
    return [
        (_reconstruct, "numpy.core.multiarray._reconstruct"),
        np.ndarray,
        np.dtype,
        np.dtypes.Float64DType,
        codecs.encode,
    ]
