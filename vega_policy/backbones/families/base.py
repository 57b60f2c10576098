"""What `FusedMLLM` and the backbone need to know about a family of transformers MLLMs.

A family has no state and no weights. Its `model` arguments are the stock headless model, `XModel`, which
lies under `.model` of every `XForConditionalGeneration`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Architecture = dict[str, Any]
Mean = tuple[float, float, float]

SIGLIP_MEAN: Mean = (0.5, 0.5, 0.5)
TINY_TEXT: Architecture = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1,  # grows to the tokenizer's
}
TINY_SIGLIP: Architecture = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 56,
    "patch_size": 14,
}


@dataclass(frozen=True)
class Seen:
    """What the vision half of an MLLM hands to its language model.

    Attributes:
        tokens: One embedding per image placeholder of the prompt.
        deeper: Further embeddings that the language model adds after its first layers (Qwen3-VL's DeepStack).
    """

    tokens: Float[Tensor, "images n dim"]
    deeper: list[Float[Tensor, "images*n dim"]] | None = None


class Family(ABC):
    """One family: its names, its prompt, its images, its positions and where fusion enters.

    Attributes:
        model_type: transformers' name.
        image_token: The placeholder that stands for one visual token.
        special_tokens: All tokens of the prompt that are not words, the placeholder included.
        mean: Of the pixels that the published checkpoints were trained with, RGB in [0, 1].
        std: Likewise.
        tiny: Arguments of the transformers configuration of a model with about 100 thousand parameters.
        causal_prefix: Whether the prompt's tokens see only earlier ones.
        repeats_whole_samples: Whether `generate` with several sequences per sample keeps a sample's images
            together; stock transformers repeats them one by one for most families.
    """

    model_type: ClassVar[str]
    image_token: ClassVar[str] = "<image>"
    special_tokens: ClassVar[tuple[str, ...]]
    mean: ClassVar[Mean] = SIGLIP_MEAN
    std: ClassVar[Mean] = SIGLIP_MEAN
    tiny: ClassVar[Architecture]
    causal_prefix: ClassVar[bool] = True
    repeats_whole_samples: ClassVar[bool] = False

    @abstractmethod
    def prompt(self, request: str, cameras: int, num_tokens: int) -> str:
        """The chat prompt with `num_tokens` placeholders per image, up to where the answer starts."""

    @abstractmethod
    def default_image_size_px(self, config: Any) -> int:
        """The side of the square image that the configuration suggests."""

    @abstractmethod
    def grid(self, config: Any, image_size_px: int) -> tuple[int, int]:
        """Rows and columns of visual tokens that the MLLM makes of a square image.

        Raises:
            ValueError: The vision tower does not take this size.
        """

    @abstractmethod
    def fused_module(self, model: Any) -> nn.Module:
        """The module whose output holds the projected visual tokens in raster order."""

    @abstractmethod
    def see(self, model: Any, pixels: Float[Tensor, "images 3 height width"]) -> Seen:
        """Runs the vision half on normalised square images, hooks included."""

    def language_model(self, model: Any) -> Any:
        """The decoder, without the LM head."""
        return model.language_model

    def tokens_of(self, output: Any) -> Tensor:
        """The projected visual tokens in the output of `fused_module`."""
        return output

    def with_tokens(self, output: Any, tokens: Tensor) -> Any:  # noqa: ARG002
        """The output of `fused_module` with other tokens in it."""
        return tokens

    def placeholders(self, grid: tuple[int, int]) -> int:
        """Placeholders that the prompt needs for one image."""
        return grid[0] * grid[1]

    def positions(
        self,
        is_image: Int[Tensor, "batch length"],  # noqa: ARG002
        mask: Int[Tensor, "batch length"],
        grid: tuple[int, int],  # noqa: ARG002
        extra: int,
    ) -> Int[Tensor, "... batch total"]:
        """Position ids of a left-padded prompt and of `extra` tokens behind it.

        Args:
            is_image: 1 at image placeholders.
            mask: 0 at padding.
            grid: Rows and columns of one image's tokens.
            extra: Tokens behind the prompt.
        """
        prompt = mask.cumsum(-1) - 1
        return continued(prompt.clamp(min=0), mask.sum(-1), extra)

    def deeper_inputs(self, seen: Seen, is_image: Tensor) -> dict[str, Any]:  # noqa: ARG002
        """Further arguments of the language model, given `Seen.deeper`."""
        return {}

    def vocabulary_ids(self, tokenizer: Any) -> Architecture:
        """Entries of the transformers configuration that depend on the tokenizer."""
        return {"image_token_id": tokenizer.convert_tokens_to_ids(self.image_token)}


def continued(
    positions: Int[Tensor, "*axes batch length"], next_position: Int[Tensor, " batch"], extra: int
) -> Int[Tensor, "*axes batch total"]:
    """Positions that go on by ones from `next_position`, alike on every axis."""
    tail = next_position[:, None] + torch.arange(extra, device=positions.device)
    return torch.cat([positions, tail.expand(*positions.shape[:-1], extra)], dim=-1)


def square_grid(image_size_px: int, token_px: int, kind: str) -> tuple[int, int]:
    """The token grid of a square image.

    Raises:
        ValueError: `image_size_px` is not a multiple of `token_px`.
    """
    if image_size_px < token_px or image_size_px % token_px:
        raise ValueError(
            f"expected {kind}'s backbone.image_size_px to be a multiple of {token_px} px (one visual token), "
            f"got {image_size_px}; nearest is {max(1, round(image_size_px / token_px)) * token_px}"
        )
    side = image_size_px // token_px
    return side, side


def require_size(image_size_px: int, only_px: int, kind: str) -> None:
    """Refuses another image size than the one that a vision tower with fixed positions takes.

    Raises:
        ValueError: The sizes differ.
    """
    if image_size_px != only_px:
        raise ValueError(
            f"{kind}'s vision tower takes {only_px} px only, got backbone.image_size_px={image_size_px}: "
            "leave it out or change it"
        )
