"""What a Latent World Simulator is built from, as a plain dataclass that draccus reads from YAML.

Every field that changes a feature is here, so that a checkpoint which stores this configuration stores
all that is needed to compute the same features again.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from vega_policy.names import nearest_name_error

NAMES = ("wan", "svd", "stable_diffusion", "vae", "vjepa2", "dino")
CONTROLS = ("none", "zeros", "noise", "random_init", "shuffled")
FULL_NOISE = 1000
"""Noise levels count thousandths: `k` of 1000 (VEGA-3D, arXiv 2603.19235, equation 4)."""
DEFAULT_NOISE_LEVELS = {"wan": 300, "svd": 300, "stable_diffusion": 300, "vae": 0}
"""300 is VEGA-3D's default; a lone VAE latent is read clean."""


@dataclass
class SimulatorConfig:
    """A simulator, the point it is read at, and the control it may serve as.

    Attributes:
        name: The backbone: one of `NAMES`.
        control: `none`, or what replaces the features in an ablation: `zeros`; `noise` (the input is pure
            noise, t = 1); `random_init` (the same architecture with untrained weights); `shuffled` (the
            features of another image).
        source: Hub id or local folder of the weights. None builds random weights from `architecture`.
        revision: Commit, tag or branch of a Hub id.
        architecture: Overrides of the parts' own configurations, by the part's folder name, for example
            `{"transformer": {"num_layers": 8}, "vae": {"base_dim": 8}}`. Only without `source`.
        prompt_path: A file with the empty prompt's embedding, for weights that come without a text encoder.
        block: The transformer block whose output is read, counted from 0. `wan` only; the others have one
            place to read.
        noise_level: k of 1000. None is the backbone's default (`DEFAULT_NOISE_LEVELS`).
        timestep_snapping: `exact` uses t = k/1000. `reference` uses the nearest entry of the schedule that
            VEGA-3D's own code looks up (k = 300 gives timestep 299 and t = 0.2999238). `wan` only.
        noise_seed: Seed of the one noise tensor that every frame of every camera gets.
        init_seed: Seed of random weights.
        image_size_px: Side of the square picture that the backbone sees.
        clip_length: Longest clip in frames; 1 + 4n for `wan`.
        dtype: Of the weights, the features and everything between; norms and modulations stay in float32
            where the library keeps them so.
        vae_dtype: Of a video or image autoencoder.
        compile: Run the backbone through torch.compile.
        cuda_graph: Replay the backbone as one CUDA graph per input shape. No effect on a CPU.

    Raises:
        ValueError: A field is out of range; the message names the nearest valid value.
    """

    CHOSEN_BY: ClassVar = ("name", "source", "architecture")

    name: str = "wan"
    control: str = "none"
    source: str | None = None
    revision: str | None = None
    architecture: dict[str, dict[str, Any]] = field(default_factory=dict)
    prompt_path: str | None = None
    block: int = 20
    noise_level: int | None = None
    timestep_snapping: Literal["exact", "reference"] = "exact"
    noise_seed: int = 0
    init_seed: int = 0
    image_size_px: int = 256
    clip_length: int = 1
    dtype: Literal["float32", "bfloat16"] = "float32"
    vae_dtype: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    cuda_graph: bool = False

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise nearest_name_error("simulator", self.name, NAMES)
        if self.control not in CONTROLS:
            raise nearest_name_error("control", self.control, CONTROLS)
        if self.source is not None and self.architecture:
            raise ValueError(
                f"expected either source or architecture, got source={self.source!r} and an architecture for "
                f"{sorted(self.architecture)}: a source brings its own; remove one of the two"
            )
        if self.noise_level is not None and not 0 <= self.noise_level <= FULL_NOISE:
            raise ValueError(f"expected noise_level in 0..{FULL_NOISE} or null, got {self.noise_level}")
        if self.control == "noise" and self.name not in DEFAULT_NOISE_LEVELS:
            raise ValueError(
                f"expected a generative simulator ({', '.join(DEFAULT_NOISE_LEVELS)}) for control=noise, got "
                f"{self.name!r}, which takes no noise: use zeros, random_init or shuffled"
            )
        if self.control == "noise" and self.name == "svd":
            raise ValueError(
                "expected another simulator than svd for control=noise: beside its noise it sees a clean "
                "picture; use zeros, random_init or shuffled"
            )
        if self.cuda_graph and self.name != "wan":
            raise ValueError(f"expected cuda_graph=false for {self.name!r}: graphs are for wan")
        if self.name not in DEFAULT_NOISE_LEVELS and self.noise_level is not None:
            raise ValueError(f"expected noise_level=null for {self.name!r}, which takes no noise")
        if self.name == "wan" and self.clip_length % 4 != 1:
            raise ValueError(f"expected clip_length = 1 + 4n frames for wan, got {self.clip_length}")

    @property
    def resolved_noise_level(self) -> int:
        """The k of 1000 in force: 1000 for the control `noise`, else the given or the backbone's default."""
        if self.control == "noise":
            return FULL_NOISE
        return DEFAULT_NOISE_LEVELS[self.name] if self.noise_level is None else self.noise_level

    @property
    def is_from_hub(self) -> bool:
        """Whether the weights can be fetched again by id, so that a checkpoint need not hold them."""
        return self.loads_weights and not Path(str(self.source)).expanduser().is_dir()

    @property
    def loads_weights(self) -> bool:
        """Whether trained weights are read from `source`."""
        return self.source is not None and self.control not in ("random_init", "zeros")


def tiny_wan_config(**overrides: Any) -> SimulatorConfig:
    """Wan's architecture at a size that two CPU cores run in milliseconds: 4x4 tokens of 128 px images.

    The transformer is as wide as a token has latent numbers, 4 x 4 x 16: a narrower one cannot pass the noise
    through that it has to predict.

    Args:
        **overrides: Fields of `SimulatorConfig` to change.
    """
    vae = {"base_dim": 8, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 1}
    transformer = {
        "patch_size": [1, 4, 4],
        "num_attention_heads": 4,
        "attention_head_dim": 64,
        "num_layers": 4,
        "ffn_dim": 512,
        "freq_dim": 64,
        "text_dim": 64,
        "rope_max_seq_len": 64,
    }
    defaults: dict[str, Any] = {
        "architecture": {"vae": vae, "transformer": transformer},
        "block": 2,
        "image_size_px": 128,
    }
    return SimulatorConfig(**(defaults | overrides))
