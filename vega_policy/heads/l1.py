"""The regression head of OpenVLA-OFT (arXiv 2502.19645): one pass, mean absolute error.

Parameters carry the names of OpenVLA-OFT's published `action_head--*_checkpoint.pt`, so these load unchanged.
There is no squashing at the end: actions may leave (-1, 1) and are clipped by the post-processor.
"""

from typing import override

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vega_policy.heads.base import ActionHead, mean_over_steps
from vega_policy.heads.config import HeadConfig
from vega_policy.heads.noise import Generators
from vega_policy.heads.prefix import ChunkPrefix


class ResidualBlock(nn.Module):
    """`x + ReLU(Linear(LayerNorm(x)))`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Adds the block's output to its input."""
        return x + self.ffn(x)


class MlpResNet(nn.Module):
    """Norm, project, a few residual blocks, norm, project."""

    def __init__(self, input_dim: int, width: int, num_blocks: int, output_dim: int) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(input_dim)
        self.fc1 = nn.Linear(input_dim, width)
        self.mlp_resnet_blocks = nn.ModuleList(ResidualBlock(width) for _ in range(num_blocks))
        self.layer_norm2 = nn.LayerNorm(width)
        self.fc2 = nn.Linear(width, output_dim)

    def forward(self, x: Float[Tensor, "*batch input_dim"]) -> Float[Tensor, "*batch output_dim"]:
        """Maps each position on its own."""
        x = torch.relu(self.fc1(self.layer_norm1(x)))
        for block in self.mlp_resnet_blocks:
            x = block(x)
        return self.fc2(self.layer_norm2(x))


class L1Head(ActionHead):
    """Predicts every step of the chunk from that step's slots, independently of the other steps."""

    def __init__(self, config: HeadConfig, hidden_dim: int, chunk_length: int, action_dim: int) -> None:
        super().__init__(config, hidden_dim, chunk_length, action_dim)
        self.model = MlpResNet(self.step_dim, config.width, config.num_blocks, action_dim)

    def forward(self, hidden: Float[Tensor, "batch slots dim"]) -> Float[Tensor, "batch chunk action_dim"]:
        """The chunk in float32."""
        return self.model(self.group_by_step(hidden)).float()

    @override
    def loss(
        self,
        hidden: Float[Tensor, "batch slots dim"],
        target: Float[Tensor, "batch chunk action_dim"],
        pads: Bool[Tensor, "batch chunk"],
        generator: Generators,
    ) -> Float[Tensor, " batch"]:
        return mean_over_steps((self(hidden) - target).abs(), pads)

    @override
    @torch.no_grad()
    def sample(
        self,
        hidden: Float[Tensor, "batch slots dim"],
        generator: Generators,
        prefix: ChunkPrefix | None = None,
    ) -> Float[Tensor, "batch chunk action_dim"]:
        chunk = self(hidden)
        return chunk if prefix is None else prefix.blend(chunk)
