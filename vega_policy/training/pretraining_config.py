"""What the tiny world simulator is trained from and how; read from YAML, so it imports nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path

from vega_policy.simulators.config import SimulatorConfig, tiny_wan_config


@dataclass
class VideosConfig:
    """A LeRobotDataset whose videos are learned from."""

    repo_id: str = "local/dataset"  # Hub id; only a name if root is given
    root: Path | None = None  # the dataset's folder
    max_episodes: int | None = 300  # spread over the dataset; all if null
    keep_every: int = 4  # keep each n-th frame of a video
    frame_stride: int = 8  # control steps between the frames of a clip, as the policy sees them
    validation_share: float = 0.05  # of the episodes, held out

    def __post_init__(self) -> None:
        if self.max_episodes is not None and self.max_episodes < 2:
            raise ValueError(f"expected videos.max_episodes of at least 2, or null, got {self.max_episodes}")
        if self.keep_every < 1 or self.frame_stride % self.keep_every:
            raise ValueError(
                f"expected videos.frame_stride to be a multiple of videos.keep_every, "
                f"got {self.frame_stride} and {self.keep_every}"
            )
        if not 0 < self.validation_share < 1:
            raise ValueError(f"expected videos.validation_share in (0, 1), got {self.validation_share}")


@dataclass
class StageConfig:
    """How one network is trained: AdamW, linear warm-up, cosine to a hundredth of the peak rate."""

    steps: int = 1000  # optimiser steps
    batch_size: int = 16  # frames per step; clips of five have as many frames
    lr: float = 3e-3  # the peak
    warmup_steps: int = 50  # of steps
    weight_decay: float = 0.01  # AdamW's
    grad_clip_norm: float = 1.0  # of all gradients together; 0 does not clip
    clip_every: int = 4  # each n-th step learns from clips of five frames, the others from single frames
    validate_every: int = 200  # steps
    save_every: int = 100  # steps

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "clip_every", "validate_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} of at least 1, got {getattr(self, name)}")


@dataclass
class VaeStageConfig(StageConfig):
    """The autoencoder: squared error of pixels, and a small KL term."""

    crop_px: int = 64  # side of the squares learned from; the network is convolutional
    kl_weight: float = 1e-5  # of the mean divergence from the standard normal distribution


@dataclass
class FlowStageConfig(StageConfig):
    """The transformer: flow matching on latents that are computed once."""

    batch_size: int = 32
    num_frames: int = 8000  # single frames encoded for training
    num_clips: int = 1000  # clips of five frames encoded for training


@dataclass
class PretrainConfig:
    """Train a world simulator in Wan's architecture: its autoencoder, then its transformer."""

    output_dir: Path  # the finished simulator: a folder for simulator.source; work is in <output_dir>.work
    videos: VideosConfig = field(default_factory=VideosConfig)
    simulator: SimulatorConfig = field(default_factory=tiny_wan_config)  # what is trained
    vae: VaeStageConfig = field(default_factory=VaeStageConfig)
    flow: FlowStageConfig = field(default_factory=FlowStageConfig)
    seed: int = 0  # of weights, batches and noise
    device: str = "cpu"  # e.g. cuda
    resume: bool = False  # go on where an earlier run of the same command stopped

    def __post_init__(self) -> None:
        if self.simulator.name != "wan" or self.simulator.source is not None:
            raise ValueError(
                "expected simulator.name wan and simulator.source null: vega-pretrain trains Wan's "
                f"architecture from nothing, got {self.simulator.name!r} and {self.simulator.source!r}"
            )
        if not self.simulator.architecture:  # as when one field of it is given without the others
            raise ValueError(
                "expected simulator.architecture, without which Wan's is the largest model's: start from "
                "--config_path=configs/simulator/tiny.yaml"
            )

        if self.vae.crop_px % 8 or not 8 <= self.vae.crop_px <= self.simulator.image_size_px:
            raise ValueError(
                "expected vae.crop_px to be a multiple of the autoencoder's 8 pixels and at most "
                f"simulator.image_size_px ({self.simulator.image_size_px}), got {self.vae.crop_px}"
            )

    @property
    def work_dir(self) -> Path:
        """Frames, checkpoints, logs: all that an interrupted run goes on from."""
        return self.output_dir.with_name(f"{self.output_dir.name}.work")
