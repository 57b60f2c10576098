"""The settings of a training run: LeRobot's where LeRobot has them, and what VEGA adds.

`pipeline` turns them into what LeRobot's trainer takes. LeRobot's own configuration reads the command line a
second time while it is checked; the subclass below is told what it would look for there.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import override
from unittest.mock import patch

from lerobot.configs.default import DatasetConfig, WandBConfig
from lerobot.configs.train import TrainPipelineConfig
from lerobot.utils.constants import PRETRAINED_MODEL_DIR

from vega_policy.checkpoints import named
from vega_policy.configuration_vega import VegaConfig
from vega_policy.training.cache.dataset import CacheConfig
from vega_policy.training.checkpoints import newest_checkpoint


@dataclass
class ClosedLoopConfig:
    """Episodes in the simulator during training."""

    every: int = 0  # steps between evaluations, a multiple of save_freq; 0 for none
    suite: str = "libero_spatial"  # one or more, separated by commas
    task_ids: list[int] | None = None  # e.g. [0,1]; all tasks of the suite if not given
    trials: int = 2  # episodes per task
    first_trial: int = 40  # init state of the first: other ones than the examination's, which begins at 0
    image_size_px: int | None = None  # of both cameras; the training data's if not given
    num_workers: int = 1  # processes that play side by side
    assets: str = "auto"  # auto, official, standin or a folder
    protocol: str = "oft"  # step limits: oft or lerobot


@dataclass
class TrainingData(DatasetConfig):
    """LeRobot's settings of a dataset, which may also be just a folder (`root`)."""

    repo_id: str = "local/demonstrations"


@dataclass
class TrainConfig:
    """Train a VEGA policy by behaviour cloning."""

    output_dir: Path  # checkpoints, logs and evaluations go here
    dataset: TrainingData = field(default_factory=TrainingData)
    policy: VegaConfig = field(default_factory=VegaConfig)
    init_from: str | None = None  # start from vega-tiny, a folder or a Hub id; its settings replace policy's
    resume: bool = False  # go on from the last complete checkpoint in output_dir; begin if there is none
    steps: int = 30_000  # weight updates
    batch_size: int = 64  # samples per update and process
    seed: int = 0  # of data order, noise and the head's weights; others have an init_seed in policy.*
    num_workers: int = 0  # processes that load data and fill the cache; 0 does so in the training process
    num_threads: int = 0  # of torch on the CPU; 0 leaves its own choice
    ema_decay: float | None = None  # of the averaged weights; none are kept if not given
    log_freq: int = 100  # steps between logged numbers
    save_freq: int = 2_000  # steps between checkpoints; 0 keeps only the last
    eval_freq: int = 0  # steps between losses on held-out episodes (dataset.eval_split); 0 for none
    closed_loop: ClosedLoopConfig = field(default_factory=ClosedLoopConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    wandb: WandBConfig = field(default_factory=WandBConfig)

    def __post_init__(self) -> None:
        """Checks what needs no dataset.

        Raises:
            ValueError: A number is out of range, or settings contradict each other.
        """
        for name in ("steps", "batch_size", "log_freq"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected --{name} of at least 1, got {getattr(self, name)}")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"expected --ema_decay in [0, 1), got {self.ema_decay}")
        for name, least in {"first_trial": 0, "trials": 1, "num_workers": 1, "every": 0}.items():
            value = getattr(self.closed_loop, name)
            if value < least:
                raise ValueError(f"expected --closed_loop.{name} of at least {least}, got {value}")
        if self.closed_loop.every and (self.save_freq < 1 or self.closed_loop.every % self.save_freq):
            raise ValueError(
                f"expected closed_loop.every to be a multiple of save_freq ({self.save_freq}), as "
                f"checkpoints are what is evaluated; got {self.closed_loop.every}"
            )
        if self.eval_freq and not self.dataset.eval_split:
            raise ValueError(
                "expected --dataset.eval_split above 0 with --eval_freq: what is to be held out?"
            )
        if self.cache.enabled and self.dataset.image_transforms.enable:
            raise ValueError(
                "dataset.image_transforms change pictures in every epoch, cached features cannot follow: set "
                "cache.enabled=false, or cache.shift_px instead of dataset.image_transforms.enable"
            )
        if self.dataset.streaming:
            raise ValueError("expected dataset.streaming=false: a stream cannot be resumed, nor be cached")


@dataclass
class Pipeline(TrainPipelineConfig):
    """LeRobot's configuration of a run, complete without a command line."""

    @override
    def _resolve_pretrained_from_cli(self) -> None:
        """Where to start from is known already."""

    @override
    def validate(self) -> None:
        """LeRobot's checks but that of an existing folder: `pipeline` has looked, the request lies there."""
        with patch.object(self, "resume", True):
            super().validate()


def pipeline(config: TrainConfig) -> Pipeline:
    """LeRobot's configuration for a run, checked.

    Raises:
        FileNotFoundError: If there is nothing to start from.
        FileExistsError: If `output_dir` is there and `resume` is not set.
        ValueError: If settings contradict each other.
    """
    checkpoint = _checkpoint_to_resume(config)
    made = Pipeline(
        dataset=config.dataset,
        policy=config.policy,
        output_dir=config.output_dir,
        job_name=config.output_dir.name,
        resume=checkpoint is not None,
        seed=config.seed,
        num_workers=config.num_workers,
        batch_size=config.batch_size,
        steps=config.steps,
        env_eval_freq=0,
        log_freq=config.log_freq,
        eval_steps=config.eval_freq,
        save_freq=config.save_freq,
        wandb=config.wandb,
    )
    start = None if config.init_from is None else named(config.init_from)
    if checkpoint is not None:
        made.checkpoint_path = checkpoint
        start = str(checkpoint / PRETRAINED_MODEL_DIR)
    if start is not None:
        made.policy = _from_checkpoint(start, config.policy)
    assert made.policy is not None
    made.policy.push_to_hub = False
    made.optimizer = made.policy.get_optimizer_preset()
    made.scheduler = made.policy.get_scheduler_preset()
    made.validate()
    return made


def _checkpoint_to_resume(config: TrainConfig) -> Path | None:
    """None begins anew, also where a run was stopped before its first checkpoint."""
    if config.resume:
        return newest_checkpoint(config.output_dir)
    if config.output_dir.exists():
        raise FileExistsError(
            f"{config.output_dir} exists already; go on with its run by --resume=true, remove it, or choose "
            "another --output_dir"
        )
    return None


def _from_checkpoint(path: str, settings: VegaConfig) -> VegaConfig:
    """A checkpoint's configuration, with the given device, optimizer and octaves of the state."""
    from lerobot.configs.policies import PreTrainedConfig

    found = PreTrainedConfig.from_pretrained(path)
    if not isinstance(found, VegaConfig):
        raise ValueError(f"expected a VEGA checkpoint to start from, {path} is of type {found.type!r}")
    for name in vars(settings):
        if name.startswith(("optimizer_", "scheduler_")):
            setattr(found, name, getattr(settings, name))
    found.proprioception_octaves = settings.proprioception_octaves or found.proprioception_octaves
    found.device = settings.device
    found.pretrained_path = Path(path)
    return found
