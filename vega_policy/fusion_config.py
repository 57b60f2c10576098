"""The settings of the fusion, free of torch so that command lines can parse them quickly."""

from dataclasses import dataclass

from vega_policy.names import nearest_name_error

FUSIONS = (
    "gated_residual",
    "gated",
    "gated_normed",
    "channel_gated",
    "add",
    "concat",
    "cross_attention",
    "generative_only",
    "none",
)


@dataclass
class FusionConfig:
    """How generative tokens join the MLLM's visual tokens.

    Attributes:
        name: one of `FUSIONS`; `vega_policy.fusion` says what each computes.
        residual_scale: initial s of `gated_residual`; 0 starts as the original model bit for bit, the
            authors' spatial-reasoning code starts at 0.2. Other fusions ignore it.
        num_blocks: blocks of `cross_attention` (VEGA-3D's ablation: 1 and 3). Other fusions ignore it.
    """

    name: str = "gated_residual"
    residual_scale: float = 0.0
    num_blocks: int = 1

    def __post_init__(self) -> None:
        if self.name not in FUSIONS:
            raise nearest_name_error("fusion", self.name, FUSIONS)
        if self.num_blocks < 1:
            raise ValueError(f"fusion.num_blocks must be at least 1, got {self.num_blocks}")
