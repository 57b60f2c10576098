"""`--env.type=vega_libero`: this package's LIBERO for LeRobot's trainer and evaluation.

Observations and the preprocessor are those of LeRobot's own `libero`. What differs: assets need no download,
pictures and states do not depend on history, and the init state is a function of the episode. LeRobot's own
environment counts its resets instead, so that resuming, sharding or reordering changes the scenes.

Importing this module registers the type with LeRobot and imports LeRobot (seconds).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.envs.utils import NEW_ROLLOUT_OPTION, _LazyAsyncVectorEnv, freeze_after_episode_end
from lerobot.processor import LiberoProcessorStep, PolicyProcessorPipeline
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE

from vega_policy.envs.libero.env import LiberoEnv
from vega_policy.envs.libero.raw import CONTROL_FREQUENCY_HZ
from vega_policy.envs.libero.spaces import ACTION_DIM, CAMERAS
from vega_policy.envs.libero.tasks import find_task, suite_tasks

STATE_DIM = 8
"""End-effector position, rotation vector, two gripper joints: what `LiberoProcessorStep` makes."""


class EpisodeEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Runs trial i in LeRobot's i-th episode.

    LeRobot seeds its episodes consecutively, from a first seed it does not tell: sub-environment j of n gets
    first + j, then first + j + n, and so on. So the first seed is the one seen first, less j.

    Attributes:
        task: LIBERO's name of the task.
        task_description: The instruction.
    """

    def __init__(self, env: LiberoEnv, index: int) -> None:
        """Wrap one sub-environment.

        Args:
            env: The environment.
            index: Its position in the vector environment.
        """
        super().__init__(env)
        self.task = env.task.name
        self.task_description = env.task_description
        self._max_episode_steps = env.max_steps  # the name LeRobot asks for
        self._trials = len(env.init_states)
        self._index = index
        self._first_seed: int | None = None

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start the episode that the seed stands for; trial `index` without a seed."""
        rest = {key: value for key, value in (options or {}).items() if key != NEW_ROLLOUT_OPTION}
        return self.env.reset(seed=seed, options={"trial": self._trial(seed), **rest})

    def _trial(self, seed: int | None) -> int:
        if seed is None:
            return self._index % self._trials
        if self._first_seed is None:
            self._first_seed = seed - self._index
        return (seed - self._first_seed) % self._trials


def make_episode_env(index: int, **arguments: Any) -> EpisodeEnv:
    """Build one sub-environment, in the process that steps it.

    Args:
        index: Its position in the vector environment.
        arguments: Those of `LiberoEnv`.
    """
    return EpisodeEnv(LiberoEnv(**arguments), index)


@EnvConfig.register_subclass("vega_libero")
@dataclass
class VegaLiberoConfig(EnvConfig):
    """LIBERO suites for LeRobot; `task` is a suite or several with commas between."""

    task: str = "libero_spatial"
    task_ids: list[int] | None = None  # all tasks when not given
    fps: int = CONTROL_FREQUENCY_HZ
    protocol: str = "lerobot"  # lerobot or oft
    assets: str = "auto"  # auto, official, standin or a folder
    image_size_px: int = 256
    control_mode: str = "relative"  # relative or absolute
    strict: bool = False  # refuse a mujoco version that changes results
    features: dict[str, PolicyFeature] = field(default_factory=dict)
    features_map: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Describe what a policy sees after LeRobot's preprocessor.

        Raises:
            ValueError: If `fps` is not LIBERO's control frequency.
        """
        if self.fps != CONTROL_FREQUENCY_HZ:
            raise ValueError(f"fps={self.fps}: LIBERO is controlled at {CONTROL_FREQUENCY_HZ} Hz")
        picture = (self.image_size_px, self.image_size_px, 3)
        self.features = {
            ACTION: PolicyFeature(FeatureType.ACTION, (ACTION_DIM,)),
            OBS_STATE: PolicyFeature(FeatureType.STATE, (STATE_DIM,)),
            **{f"{OBS_IMAGES}.{key}": PolicyFeature(FeatureType.VISUAL, picture) for key in CAMERAS},
        }
        self.features_map = {name: name for name in self.features}

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Arguments of `LiberoEnv` besides suite and task."""
        return {
            "protocol": self.protocol,
            "assets": self.assets,
            "image_size_px": self.image_size_px,
            "control_mode": self.control_mode,
            "strict": self.strict,
            "render_mode": "rgb_array",
        }

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, Any]]:
        """Make one vector environment per task.

        Args:
            n_envs: Sub-environments of each.
            use_async_envs: Whether each sub-environment gets a process, started at its first reset.

        Returns:
            Vector environments by suite and task id.

        Raises:
            ValueError: For an unknown suite or a task id outside it.
        """
        suites = [name.strip() for name in self.task.split(",")]
        as_processes = use_async_envs and n_envs > 1
        return {
            suite: {
                task_id: _vector_env(self._factories(suite, task_id, n_envs), as_processes)
                for task_id in self._chosen_task_ids(suite)
            }
            for suite in suites
        }

    def get_env_processors(self) -> tuple[Any, Any]:
        """LeRobot's own for LIBERO: pictures turned by 180 degrees, and a state of 8 numbers."""
        return PolicyProcessorPipeline(steps=[LiberoProcessorStep()]), PolicyProcessorPipeline(steps=[])

    def _chosen_task_ids(self, suite: str) -> list[int]:
        if self.task_ids is None:
            return [task.task_id for task in suite_tasks(suite)]
        return [find_task(suite, task_id).task_id for task_id in self.task_ids]

    def _factories(self, suite: str, task_id: int, n_envs: int) -> list[Callable[[], EpisodeEnv]]:
        make = partial(make_episode_env, suite=suite, task_id=task_id, **self.gym_kwargs)
        return [partial(make, index) for index in range(n_envs)]


def _vector_env(factories: list[Callable[[], Any]], as_processes: bool) -> Any:
    """Sub-environments that do no work after their episode, until LeRobot begins a new one."""
    if as_processes:
        return _LazyAsyncVectorEnv(factories)  # freezes each itself
    return SyncVectorEnv(
        [freeze_after_episode_end(make) for make in factories], autoreset_mode=AutoresetMode.NEXT_STEP
    )
