"""The settings of a VEGA policy, registered with LeRobot as `--policy.type=vega`.

Each part has its own section: `simulator` (the frozen video diffusion model), `fusion`, `backbone` (the
multimodal LLM) and `head`. LeRobot finds `VegaPolicy` and the pipelines by this class's and module's names.
"""

from dataclasses import dataclass, field
from typing import Any, override

from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.optim.optimizers import AdamWConfig, OptimizerConfig
from lerobot.optim.schedulers import CosineDecayWithWarmupSchedulerConfig
from lerobot.policies.rtc.configuration_rtc import RTCConfig
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE

from vega_policy.backbones.config import BackboneConfig, tiny_smolvlm_config
from vega_policy.fusion_config import FusionConfig
from vega_policy.heads.config import HeadConfig
from vega_policy.names import nearest_name_error
from vega_policy.optimizer import MuonConfig
from vega_policy.simulators.config import SimulatorConfig, tiny_wan_config
from vega_policy.vocabulary import LIBERO_WORDS

MISSING_CAMERA_RULES = ("raise", "black")
DTYPES = ("float32", "bfloat16")
OPTIMIZERS = ("adamw", "muon")


def tiny_backbone() -> BackboneConfig:
    """The default's: random weights, and the words of LIBERO's instructions."""
    return tiny_smolvlm_config(list(LIBERO_WORDS))


def tiny_head() -> HeadConfig:
    """The default's, for that backbone."""
    return HeadConfig(slots="per_step", slot_embeddings="learned", width=128)


@PreTrainedConfig.register_subclass("vega")
@dataclass
class VegaConfig(PreTrainedConfig):
    """What a VEGA policy is made of and how it is trained; the defaults are a tiny one with random weights.

    Attributes:
        cameras: Observation keys in the order in which the policy sees them; fixed once trained.
        missing_camera: What to do when an observation lacks one of `cameras`: `raise`, or `black` (a
            picture of zeros, for setups trained with it).
        chunk_size: Control steps predicted at once.
        n_action_steps: Of these, how many are executed before the next decision; also the spacing of the
            frames in the simulator's clip, if it has several.
        use_proprioception: Whether the robot's state enters as one token.
        proprioception_octaves: How many sines and cosines of each number of the state go with it; a policy
            learns from them where tables of many heights share one scale; a published projection has none.
        unnormalised_action_dims: Action dimensions that stay as they are: the gripper's command is a sign.
        dtype: What LeRobot's trainer computes in: `bfloat16` is autocast. Weights are stored in the dtypes of
            `backbone` and `simulator`.
        seed: Seeds the flow head's noise, decision by decision.
        trained_with: Assets, protocol and picture size of the training data, where the data tell; written by
            training, so that an evaluation under other conditions can say so.
        rtc_config: LeRobot's real-time chunking; None executes chunks one after the other.
        optimizer_name: `adamw`, or `muon` for the weights of linear layers and AdamW for the rest, with one
            learning rate for both.
    """

    cameras: tuple[str, ...] = (f"{OBS_IMAGES}.image", f"{OBS_IMAGES}.image2")
    missing_camera: str = "raise"
    chunk_size: int = 8
    n_action_steps: int = 8
    use_proprioception: bool = True
    proprioception_octaves: int = 0
    unnormalised_action_dims: tuple[int, ...] = (6,)
    dtype: str = "float32"
    seed: int = 0
    trained_with: dict[str, Any] = field(default_factory=dict)

    simulator: SimulatorConfig = field(default_factory=tiny_wan_config)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    backbone: BackboneConfig = field(default_factory=tiny_backbone)
    head: HeadConfig = field(default_factory=tiny_head)
    rtc_config: RTCConfig | None = None

    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: {
            "VISUAL": NormalizationMode.IDENTITY,
            "STATE": NormalizationMode.QUANTILES,
            "ACTION": NormalizationMode.QUANTILES,
        }
    )

    optimizer_name: str = "adamw"
    optimizer_lr: float = 3e-4
    optimizer_betas: tuple[float, float] = (0.9, 0.95)
    optimizer_eps: float = 1e-8
    optimizer_weight_decay: float = 0.01
    optimizer_grad_clip_norm: float = 1.0
    scheduler_warmup_steps: int = 500
    scheduler_decay_steps: int = 30_000
    scheduler_decay_lr: float = 1e-5

    def __post_init__(self) -> None:
        """Checks what is known before any dataset is.

        Raises:
            ValueError: A choice is unknown or a number out of range; the message names the key.
        """
        super().__post_init__()
        if self.missing_camera not in MISSING_CAMERA_RULES:
            raise nearest_name_error("policy.missing_camera", self.missing_camera, MISSING_CAMERA_RULES)
        if self.dtype not in DTYPES:
            raise nearest_name_error("policy.dtype", self.dtype, DTYPES)
        if self.optimizer_name not in OPTIMIZERS:
            raise nearest_name_error("policy.optimizer_name", self.optimizer_name, OPTIMIZERS)
        for name in ("STATE", "ACTION"):
            if (mode := self.normalization_mapping.get(name)) != NormalizationMode.QUANTILES:
                raise ValueError(
                    f"policy.normalization_mapping.{name} is {mode}, expected QUANTILES: what the policy "
                    "reads and gives is clipped to [-1, 1]"
                )
        if self.proprioception_octaves < 0:
            raise ValueError(
                f"expected policy.proprioception_octaves of at least 0, got {self.proprioception_octaves}"
            )
        if self.proprioception_octaves and not self.use_proprioception:
            raise ValueError("policy.use_proprioception=false leaves no state: remove proprioception_octaves")
        if not self.cameras:
            raise ValueError("policy.cameras is empty: a VEGA policy needs at least one camera")
        if not 1 <= self.n_action_steps <= self.chunk_size:
            raise ValueError(
                f"policy.n_action_steps is {self.n_action_steps}, "
                f"expected 1 to policy.chunk_size ({self.chunk_size})"
            )

    @override
    def validate_features(self) -> None:
        """Checks the features that LeRobot filled in from the dataset or the environment.

        Raises:
            ValueError: A camera, the state or the action that the policy needs is missing.
        """
        known = sorted(self.image_features)
        for camera in self.cameras:
            if camera not in self.image_features and self.missing_camera == "raise":
                raise ValueError(
                    f"expected the camera {camera!r} (policy.cameras), the data has {known}: "
                    "change policy.cameras, map names with --rename_map, or set policy.missing_camera=black"
                )
        if self.use_proprioception and self.robot_state_feature is None:
            raise ValueError(
                f"expected {OBS_STATE!r} in the data: add it or set policy.use_proprioception=false"
            )
        if self.action_feature is None:
            raise ValueError(f"expected {ACTION!r} in the data, it has {sorted(self.output_features or {})}")
        outside = [dim for dim in self.unnormalised_action_dims if not 0 <= dim < self.action_dim]
        if outside:
            raise ValueError(
                f"policy.unnormalised_action_dims has {outside}, the action has dimensions 0 to "
                f"{self.action_dim - 1}: leave only those that are signs, such as a gripper's; [] for none"
            )

    @property
    def state_dim(self) -> int:
        """Numbers in the robot's state."""
        return _vector_dim(self.robot_state_feature, OBS_STATE)

    @property
    def action_dim(self) -> int:
        """Numbers in one action."""
        return _vector_dim(self.action_feature, ACTION)

    @property
    @override
    def observation_delta_indices(self) -> list[int] | None:
        """Frames of the simulator's clip relative to now, oldest first; None for single frames.

        A running policy looks once per decision, so the frames lie `n_action_steps` control steps apart.
        """
        past = self.simulator.clip_length - 1
        if past == 0:
            return None
        return [-self.n_action_steps * decisions_ago for decisions_ago in range(past, -1, -1)]

    @property
    @override
    def action_delta_indices(self) -> list[int]:
        """The chunk starts with the action taken at the observation."""
        return list(range(self.chunk_size))

    @property
    @override
    def reward_delta_indices(self) -> None:
        """Behaviour cloning reads no reward."""
        return None

    @override
    def get_optimizer_preset(self) -> OptimizerConfig:
        """The optimizer that `optimizer_name` says, with the settings above."""
        chosen = MuonConfig if self.optimizer_name == "muon" else AdamWConfig
        return chosen(
            lr=self.optimizer_lr,
            betas=self.optimizer_betas,
            eps=self.optimizer_eps,
            weight_decay=self.optimizer_weight_decay,
            grad_clip_norm=self.optimizer_grad_clip_norm,
        )

    @override
    def get_scheduler_preset(self) -> CosineDecayWithWarmupSchedulerConfig:
        """Linear warm-up, then a cosine to `scheduler_decay_lr`."""
        return CosineDecayWithWarmupSchedulerConfig(
            peak_lr=self.optimizer_lr,
            decay_lr=self.scheduler_decay_lr,
            num_warmup_steps=self.scheduler_warmup_steps,
            num_decay_steps=self.scheduler_decay_steps,
        )


def libero_features(image_size_px: int = 256) -> tuple[dict[str, PolicyFeature], dict[str, PolicyFeature]]:
    """LIBERO's input and output features under LeRobot's keys: two cameras, a state of 8, an action of 7."""
    visual = PolicyFeature(FeatureType.VISUAL, (3, image_size_px, image_size_px))
    inputs = {f"{OBS_IMAGES}.image": visual, f"{OBS_IMAGES}.image2": visual}
    inputs[OBS_STATE] = PolicyFeature(FeatureType.STATE, (8,))
    return inputs, {ACTION: PolicyFeature(FeatureType.ACTION, (7,))}


def _vector_dim(feature: PolicyFeature | None, key: str) -> int:
    if feature is None:
        raise ValueError(f"the policy's features have no {key!r}: build it from a dataset or an environment")
    return int(feature.shape[0])
