"""What a collection is asked for, and the environment that records it.

Surprising: `output_dir` is the finished dataset; recordings gather beside it, in `recordings_dir`.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vega_policy.cli.recordings import recordings_dir

if TYPE_CHECKING:
    from vega_policy.rollouts.episode import Task
    from vega_policy.rollouts.recording import RecordingEnv

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
    "kicks": (0, 0.2),
    "start_steps": (0, 50),
    "beta": (0.001, 1),
    "rescue": (0, 1),
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
    kicks: float = 0.0  # chance at each step that the hand is moved aside or turned; labels lead back
    start_steps: int = 0  # before recording, move the arm at random for up to this many steps (1.2 cm each)
    policy: LearnerConfig = field(default_factory=LearnerConfig)
    beta: float = 0.1  # with --policy.path: chance that the expert takes over, at each of its decisions
    rescue: float = 0.5  # the same where it has shut its fingers on nothing or stays in one place, if more
    protocol: str = "oft"  # step limits: oft or lerobot
    assets: str = "auto"  # auto, official, standin or a folder
    strict: bool = False  # refuse a mujoco version that changes results
    seed: int = 0  # from which the seed of each episode follows
    num_workers: int = 1  # processes that record side by side
    resume: bool = False  # continue the recordings of an earlier run
    episode_time_limit_s: float = 600.0  # after this long without a decision a worker counts as hung

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
        return recordings_dir(self.output_dir)


@dataclass(frozen=True)
class MakeRecordedLibero:
    """Environment factory: LIBERO with random placements, recorded; the config's picture size is known."""

    config: CollectConfig

    def __call__(self, task: "Task", images: bool) -> "RecordingEnv":
        """Look the task up; the simulation is built at the first reset."""
        from vega_policy.envs.libero.env import LiberoEnv
        from vega_policy.rollouts.recording import RecordingEnv
        from vega_policy.training.libero_data import FPS, libero_frame

        config = self.config
        assert config.image_size_px is not None, "the caller has chosen one"
        env = LiberoEnv(
            task.suite,
            task.task_id,
            protocol=config.protocol,
            assets=config.assets,
            image_size_px=config.image_size_px,
            images=images,
            steps_after_success=round(config.continue_after_success_s * FPS),
            strict=config.strict,
        )
        return RecordingEnv(
            env,
            task_folder(config.recordings_dir, task),
            libero_frame,
            frames_per_s=FPS,
            reset_options={"placement": "random"},
            start_steps=config.start_steps,
            keep_failures=config.keep_failures,
        )


def task_folder(recordings_dir: Path, task: "Task") -> Path:
    """Where the recordings of a task are."""
    return recordings_dir / f"{task.suite}_task{task.task_id:02d}"
