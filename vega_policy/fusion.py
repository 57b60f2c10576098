"""Fusing an MLLM's visual tokens with a video model's tokens, token by token on one grid.

VEGA-3D (arXiv 2603.19235) projects both streams into the LLM's width (equation 6), gates them from their
LayerNorms (equation 7) and mixes them (equation 8). Here as in the authors' code the semantic projector P_sem
is the MLLM's own: semantic tokens arrive projected, and the one projector below is P_gen. In every gate
1 means semantic and 0 means generative.

Surprising: 0 * inf is NaN, so even a fusion that starts as the identity passes on a generative stream that is
not finite. The second stream must be normalised by whoever makes it.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.amp.autocast_mode import is_autocast_available
from torch.nn.functional import linear

from vega_policy.fusion_config import FusionConfig

Tokens = Float[Tensor, "batch n dim"]


@dataclass(frozen=True)
class Fused:
    """Tokens for the LLM, and the gate that made them; None if the fusion has no gate."""

    tokens: Tokens
    gate: Float[Tensor, "batch n"] | None  # fp32; 1 = semantic, 0 = generative


class Fusion(nn.Module):
    """Checks the two streams and works in the dtype of its own weights, whatever the MLLM's."""

    def __init__(self, semantic_dim: int, generative_dim: int) -> None:
        super().__init__()
        self.semantic_dim = semantic_dim
        self.generative_dim = generative_dim

    def forward(self, semantic: Tokens, generative: Float[Tensor, "batch n dim_generative"]) -> Fused:
        """Fuse two token sequences of one grid in raster order.

        Args:
            semantic: the MLLM's projected visual tokens.
            generative: the simulator's tokens of the same image, on the same grid.

        Returns:
            Tokens of the shape and dtype of `semantic`, and the gate.

        Raises:
            ValueError: if the grids or the widths differ from what the fusion was built for.
        """
        self._check(semantic, generative)
        dtype = next(self.parameters(), semantic).dtype
        fused = self.fuse(semantic.to(dtype), generative.to(dtype))
        return Fused(fused.tokens.to(semantic.dtype), fused.gate)

    def fuse(self, semantic: Tokens, generative: Float[Tensor, "batch n dim_generative"]) -> Fused:
        """What the variant computes, both streams in the dtype of its weights."""
        raise NotImplementedError

    def _check(self, semantic: Tensor, generative: Tensor) -> None:
        if semantic.shape[:-1] != generative.shape[:-1]:
            raise ValueError(
                f"the streams must have one token grid: semantic tokens are {tuple(semantic.shape[:-1])} "
                f"(batch, n), generative {tuple(generative.shape[:-1])}; resize the generative TokenGrid"
            )
        widths = semantic.shape[-1], generative.shape[-1]
        if widths != (self.semantic_dim, self.generative_dim):
            raise ValueError(
                f"expected widths {self.semantic_dim} (semantic) and {self.generative_dim} (generative), "
                f"got {widths[0]} and {widths[1]}"
            )


class Projected(Fusion):
    """P_gen of equation 6, shared by every variant that lets the generative stream in."""

    def __init__(self, semantic_dim: int, generative_dim: int) -> None:
        super().__init__(semantic_dim, generative_dim)
        self.generative_projector = two_layer_mlp(generative_dim, semantic_dim)


class Gated(Projected):
    """Equations 6-8: raw projections mixed by one scalar gate per token, `(1 - g) F_gen + g F_sem`."""

    def __init__(self, semantic_dim: int, generative_dim: int, gate_dim: int = 1) -> None:
        super().__init__(semantic_dim, generative_dim)
        self.semantic_norm = nn.LayerNorm(semantic_dim)
        self.generative_norm = nn.LayerNorm(semantic_dim)
        self.gate = nn.Linear(2 * semantic_dim, gate_dim)

    def fuse(self, semantic: Tokens, generative: Float[Tensor, "batch n dim_generative"]) -> Fused:
        """Gate from the normalised streams, mix the raw ones."""
        projected = self.generative_projector(generative)
        normed = self.semantic_norm(semantic), self.generative_norm(projected)
        gate = sigmoid_gate(self.gate, *normed)
        return Fused(mix(gate, semantic, projected), gate.mean(-1))


class GatedNormed(Gated):
    """The authors' code: as `Gated`, but the LayerNormed streams are mixed, so tokens change scale."""

    def fuse(self, semantic: Tokens, generative: Float[Tensor, "batch n dim_generative"]) -> Fused:
        """Gate from the normalised streams, mix the normalised streams."""
        normed = self.semantic_norm(semantic), self.generative_norm(self.generative_projector(generative))
        gate = sigmoid_gate(self.gate, *normed)
        return Fused(mix(gate, *normed), gate.mean(-1))


class GatedResidual(Gated):
    """`semantic + s (mixed - semantic)` with a learnable s: at s = 0 the original model, bit for bit.

    Only s has a gradient while it is 0; gate and projector follow once it has moved.
    """

    def __init__(self, semantic_dim: int, generative_dim: int, scale: float) -> None:
        super().__init__(semantic_dim, generative_dim)
        self.scale = nn.Parameter(torch.tensor(scale))

    def fuse(self, semantic: Tokens, generative: Float[Tensor, "batch n dim_generative"]) -> Fused:
        """The mix of equation 8 as a scaled correction of the MLLM's own tokens."""
        mixed = super().fuse(semantic, generative)
        return Fused(semantic + self.scale * (mixed.tokens - semantic), mixed.gate)


class ChannelGated(Gated):
    """`Gated` with one gate per channel; the gate that is returned is its mean over channels."""

    def __init__(self, semantic_dim: int, generative_dim: int) -> None:
        super().__init__(semantic_dim, generative_dim, gate_dim=semantic_dim)


class Add(Projected):
    """`F_sem + F_gen`."""

    def fuse(self, semantic: Tokens, generative: Float[Tensor, "batch n dim_generative"]) -> Fused:
        """The sum of the streams."""
        return Fused(semantic + self.generative_projector(generative), None)


class Concat(Projected):
    """A two-layer MLP over both streams side by side in the channels."""

    def __init__(self, semantic_dim: int, generative_dim: int) -> None:
        super().__init__(semantic_dim, generative_dim)
        self.merge = two_layer_mlp(2 * semantic_dim, semantic_dim)

    def fuse(self, semantic: Tokens, generative: Float[Tensor, "batch n dim_generative"]) -> Fused:
        """The MLP of the concatenation."""
        return Fused(self.merge(torch.cat([semantic, self.generative_projector(generative)], -1)), None)


class CrossAttention(Projected):
    """Pre-norm transformer blocks: every semantic token queries all generative tokens of its image."""

    def __init__(self, semantic_dim: int, generative_dim: int, num_blocks: int) -> None:
        super().__init__(semantic_dim, generative_dim)
        self.blocks = nn.ModuleList(CrossAttentionBlock(semantic_dim) for _ in range(num_blocks))

    def fuse(self, semantic: Tokens, generative: Float[Tensor, "batch n dim_generative"]) -> Fused:
        """The semantic stream after the blocks."""
        projected = self.generative_projector(generative)
        for block in self.blocks:
            semantic = block(semantic, projected)
        return Fused(semantic, None)


class CrossAttentionBlock(nn.Module):
    """Residual cross-attention and a residual MLP; heads are 64 wide where that divides the width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        heads = dim // 64 if dim % 64 == 0 else 1
        self.query_norm = nn.LayerNorm(dim)
        self.context_norm = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = two_layer_mlp(dim, dim)

    def forward(self, tokens: Tokens, context: Tokens) -> Tokens:
        """Semantic tokens updated from generative ones."""
        context = self.context_norm(context)
        attended, _ = self.attention(self.query_norm(tokens), context, context, need_weights=False)
        tokens = tokens + attended
        return tokens + self.mlp(self.mlp_norm(tokens))


class GenerativeOnly(Projected):
    """`F_gen` alone: the ablation that throws the MLLM's own visual tokens away."""

    def fuse(self, semantic: Tokens, generative: Float[Tensor, "batch n dim_generative"]) -> Fused:  # noqa: ARG002
        """The projected generative stream."""
        return Fused(self.generative_projector(generative), None)


class NoFusion(Fusion):
    """The MLLM's own tokens: the baseline inside the same code."""

    def fuse(self, semantic: Tokens, generative: Float[Tensor, "batch n dim_generative"]) -> Fused:  # noqa: ARG002
        """The semantic stream, untouched."""
        return Fused(semantic, None)


def two_layer_mlp(dim_in: int, dim_out: int) -> nn.Sequential:
    """LLaVA's `mlp2x_gelu` projector, which VEGA-3D uses for P_gen."""
    return nn.Sequential(nn.Linear(dim_in, dim_out), nn.GELU(), nn.Linear(dim_out, dim_out))


def sigmoid_gate(gate: nn.Linear, semantic: Tokens, generative: Tokens) -> Float[Tensor, "batch n channels"]:
    """Equation 7 in fp32, autocast or not: a bf16 sigmoid is stuck at 1 for logits above 6."""
    device = semantic.device.type
    with torch.autocast(device, enabled=False) if is_autocast_available(device) else nullcontext():
        streams = torch.cat([semantic, generative], -1).float()
        return torch.sigmoid(linear(streams, gate.weight.float(), gate.bias.float()))


def mix(gate: Float[Tensor, "batch n channels"], semantic: Tokens, generative: Tokens) -> Tokens:
    """Equation 8."""
    return ((1 - gate) * generative + gate * semantic).to(semantic.dtype)


def build_fusion(config: FusionConfig, *, semantic_dim: int, generative_dim: int) -> Fusion:
    """The fusion that `config` names, with fresh weights.

    Args:
        config: which variant and its settings; already checked by its constructor.
        semantic_dim: width of the MLLM's projected visual tokens, which is the LLM's.
        generative_dim: width of the simulator's tokens.
    """
    if config.name == "gated_residual":
        return GatedResidual(semantic_dim, generative_dim, config.residual_scale)
    if config.name == "cross_attention":
        return CrossAttention(semantic_dim, generative_dim, config.num_blocks)
    variants: dict[str, type[Fusion]] = {
        "gated": Gated,
        "gated_normed": GatedNormed,
        "channel_gated": ChannelGated,
        "add": Add,
        "concat": Concat,
        "generative_only": GenerativeOnly,
        "none": NoFusion,
    }
    return variants[config.name](semantic_dim, generative_dim)
