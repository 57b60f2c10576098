"""The vision half of OpenVLA (Prismatic, arXiv 2402.07865): DINOv2 and SigLIP side by side, projected.

Both towers are stock transformers modules. OpenVLA reads another place than these return: the tokens after
the second-to-last block, without the final norm. So each tower is built one block short and its final norm is
the identity. Channels go DINOv2 first, then SigLIP; every GELU is the erf form, SigLIP's too.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    LlamaConfig,
    SiglipVisionConfig,
    SiglipVisionModel,
)

DINO_MEAN, DINO_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
SIGLIP_MEAN, SIGLIP_STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
VIT_NORM_EPSILON = 1e-6  # of both towers


def published_dino() -> dict[str, Any]:
    """DINOv2 ViT-L/14 with four registers, as its transformers configuration."""
    return {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "num_register_tokens": 4}


def published_siglip() -> dict[str, Any]:
    """SigLIP so400m/14, as its transformers configuration."""
    return {
        "hidden_size": 1152,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "intermediate_size": 4304,
    }


def published_text() -> dict[str, Any]:
    """Llama-2-7B with a vocabulary padded to a multiple of 64; the rest is LlamaConfig's default."""
    return {"vocab_size": 32064, "pad_token_id": 32000}


@dataclass(frozen=True)
class PrismaticArchitecture:
    """Sizes of an OpenVLA model; the defaults are the published 7B model's.

    Attributes:
        image_size_px: side of the square image.
        patch_size_px: side of one token.
        dino: arguments of `Dinov2WithRegistersConfig`, the unused last block counted.
        siglip: arguments of `SiglipVisionConfig`, the unused last block counted.
        text: arguments of `LlamaConfig`.
    """

    image_size_px: int = 224
    patch_size_px: int = 14
    dino: dict[str, Any] = field(default_factory=published_dino)
    siglip: dict[str, Any] = field(default_factory=published_siglip)
    text: dict[str, Any] = field(default_factory=published_text)

    @property
    def grid_side(self) -> int:
        """Tokens along one side of an image."""
        return self.image_size_px // self.patch_size_px

    @property
    def hidden_dim(self) -> int:
        """Width of the language model."""
        return LlamaConfig(**self.text).hidden_size

    @property
    def _square(self) -> dict[str, int]:
        return {"image_size": self.image_size_px, "patch_size": self.patch_size_px}

    def dino_config(self) -> Dinov2WithRegistersConfig:
        """The DINOv2 tower that is run: one block short."""
        blocks = {"num_hidden_layers": self.dino["num_hidden_layers"] - 1}
        return Dinov2WithRegistersConfig(
            **(self.dino | self._square | blocks), layer_norm_eps=VIT_NORM_EPSILON, hidden_act="gelu"
        )

    def siglip_config(self) -> SiglipVisionConfig:
        """The SigLIP tower that is run: one block short and without its pooling head."""
        blocks = {"num_hidden_layers": self.siglip["num_hidden_layers"] - 1}
        return SiglipVisionConfig(
            **(self.siglip | self._square | blocks),
            layer_norm_eps=VIT_NORM_EPSILON,
            hidden_act="gelu",
            vision_use_head=False,
        )


class Projector(nn.Module):
    """Three linear layers with erf GELUs between; the first widens fourfold."""

    def __init__(self, vision_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(vision_dim, 4 * vision_dim)
        self.fc2 = nn.Linear(4 * vision_dim, hidden_dim)
        self.fc3 = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, patches: Float[Tensor, "batch n vision_dim"]) -> Float[Tensor, "batch n dim"]:
        """Vision features into the language model's width."""
        patches = nn.functional.gelu(self.fc1(patches))
        return self.fc3(nn.functional.gelu(self.fc2(patches)))


class PrismaticVision(nn.Module):
    """Two towers on the same pixels, concatenated in the channels and projected."""

    def __init__(self, architecture: PrismaticArchitecture, hidden_dim: int) -> None:
        super().__init__()
        dino, siglip = architecture.dino_config(), architecture.siglip_config()
        self.num_prefix_tokens = 1 + dino.num_register_tokens
        self.dino = Dinov2WithRegistersModel(dino)
        self.dino.layernorm = nn.Identity()
        self.dino.embeddings.mask_token = None  # only masked pre-training uses it; no checkpoint has it
        self.siglip = SiglipVisionModel(siglip)
        self.siglip.vision_model.post_layernorm = nn.Identity()
        self.projector = Projector(dino.hidden_size + siglip.hidden_size, hidden_dim)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch n dim"]:
        """Tokens of each image in raster order.

        Args:
            images: pixels in [0, 1] at the architecture's size.
        """
        dtype = self.projector.fc1.weight.dtype
        dino = self.dino(standardised(images, DINO_MEAN, DINO_STD).to(dtype)).last_hidden_state
        siglip = self.siglip(standardised(images, SIGLIP_MEAN, SIGLIP_STD).to(dtype)).last_hidden_state
        return self.projector(torch.cat([dino[:, self.num_prefix_tokens :], siglip], dim=-1))


def standardised(
    images: Float[Tensor, "batch 3 height width"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Tensor, "batch 3 height width"]:
    """`(images - mean) / std` per colour, from Python numbers: no buffers to move, cast or lose."""
    colours = [(images[:, i] - mean[i]) / std[i] for i in range(3)]
    return torch.stack(colours, dim=1)
