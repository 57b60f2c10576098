"""How fast control steps and pictures are, measured side by side so that a busy machine slows all alike."""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from vega_policy.envs.libero.assets import Assets
from vega_policy.envs.libero.env import LiberoEnv
from vega_policy.envs.libero.plain import PlainLibero
from vega_policy.envs.libero.spaces import ACTION_DIM, CAMERAS
from vega_policy.envs.libero.tasks import find_task, load_init_states


def measure_steps(
    suite: str, task_id: int, assets: Assets, chunks: Sequence[int], steps: int, rounds: int, seed: int
) -> dict[str, list[float]]:
    """Time the same control steps in a loop over plain LIBERO and in chunks of several lengths.

    Args:
        suite: The suite's name.
        task_id: The task.
        assets: Where meshes and textures come from.
        chunks: Chunk lengths to time.
        steps: Control steps per measurement.
        rounds: Measurements of each; the ways take turns within a round.
        seed: Of the random actions and the scene.

    Returns:
        Seconds per control step of each round, under "plain" and "chunk 8" and so on. Pictures are drawn at
        every step in the plain loop, and at the end of each chunk otherwise.
    """
    actions = np.random.default_rng(seed).uniform(-0.3, 0.3, (steps, ACTION_DIM))
    task = find_task(suite, task_id)
    init_state = load_init_states(task)[0]
    plain = PlainLibero(task, assets)
    env = LiberoEnv(suite, task_id, assets=assets.folder)
    seconds: dict[str, list[float]] = {"plain": [], **{f"chunk {length}": [] for length in chunks}}
    for _ in range(rounds):
        plain.reset(seed, init_state)
        seconds["plain"].append(_seconds(plain.step, actions) / steps)
        for length in chunks:
            env.reset(seed=seed)
            parts = [actions[start : start + length] for start in range(0, steps, length)]
            seconds[f"chunk {length}"].append(_seconds(env.step, parts) / steps)
    plain.close()
    env.close()
    return seconds


def measure_drawing(
    suite: str, task_id: int, choices: Sequence[Assets], rounds: int, image_size_px: int = 256
) -> dict[str, list[float]]:
    """Time a picture with each of several assets, averaged over both cameras.

    Returns:
        Seconds per picture of each round, by kind of assets.
    """
    envs = {
        assets.kind: LiberoEnv(suite, task_id, assets=assets.folder, image_size_px=image_size_px)
        for assets in choices
    }
    for env in envs.values():
        env.reset(seed=0)
    seconds: dict[str, list[float]] = {kind: [] for kind in envs}
    for _ in range(rounds):
        for kind, env in envs.items():
            draw = partial(env.raw.draw, size_px=image_size_px)
            seconds[kind].append(_seconds(draw, CAMERAS.values()) / len(CAMERAS))
    for env in envs.values():
        env.close()
    return seconds


def _seconds[Item](work: Callable[[Item], object], items: Iterable[Item]) -> float:
    start = time.perf_counter()
    for item in items:
        work(item)
    return time.perf_counter() - start
