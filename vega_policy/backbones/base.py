"""What the policy asks of any multimodal LLM: tokenize a prompt, read a sequence that ends in action slots.

A backbone owns the fusion, so the second visual stream enters where the MLLM makes its own visual tokens
and the policy never sees token ids, masks or positions. Images and generative tokens must come from the
same pixels: same rotation, same crop, same square.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class PromptTokens:
    """Token ids of a batch of prompts, image placeholders included, padded on the left."""

    ids: Int[Tensor, "batch length"]
    mask: Bool[Tensor, "batch length"]  # False at padding

    def to(self, device: torch.device | str) -> "PromptTokens":
        """The same tokens on `device`."""
        return PromptTokens(self.ids.to(device), self.mask.to(device))


@dataclass(frozen=True)
class Reading:
    """What one forward pass over [prompt][proprioception][slots] gives to the action head.

    Attributes:
        hidden: states of the slots, last layer, after the final norm.
        prefix: the same layer before the slots, for heads that cross-attend.
        prefix_mask: False at padding.
        gate: of every visual token, detached; 1 = semantic, 0 = generative; None without a second stream or
            a gate.
    """

    hidden: Float[Tensor, "batch slots dim"]
    prefix: Float[Tensor, "batch length dim"]
    prefix_mask: Bool[Tensor, "batch length"]
    gate: Float[Tensor, "batch cameras n"] | None


class Backbone(nn.Module, ABC):
    """A multimodal LLM with the second visual stream, read at empty action slots.

    Attributes:
        hidden_dim: width of the LLM, of `proprio` tokens and of every returned state.
        grid: rows and columns of the visual tokens of one camera image, row 0 at the top.
        image_size_px: side of the square image that `read` wants.
    """

    hidden_dim: int
    grid: tuple[int, int]
    image_size_px: int

    @abstractmethod
    def prompt(self, tasks: Sequence[str], cameras: int) -> PromptTokens:
        """Tokenize one instruction per sample, with room for `cameras` images each, on the CPU."""

    @abstractmethod
    def read(
        self,
        images: Float[Tensor, "batch cameras 3 height width"],
        generative: Float[Tensor, "batch cameras n dim_generative"] | None,
        prompt: PromptTokens,
        proprio: Float[Tensor, "batch tokens dim"] | None,
        slots: Float[Tensor, "slots dim"],
    ) -> Reading:
        """One forward pass over [prompt with images][proprioception][empty action slots].

        The slots see the whole prefix and each other; the prefix never sees them.

        Args:
            images: pixels in [0, 1], `image_size_px` square, cameras in a fixed order.
            generative: simulator tokens on `grid`, raster order; None leaves the MLLM as it was.
            prompt: from `prompt` with the same number of cameras.
            proprio: robot state already projected to `hidden_dim`; None for none.
            slots: embeddings of the action slots, `ActionHead.slots`.

        Raises:
            ValueError: if a size, a token count or a batch does not fit.
        """

    @abstractmethod
    def lora_targets(self, prefix: str) -> str:
        """A regular expression, for peft's `target_modules`, of the language model's linear layers.

        Args:
            prefix: dotted path of this module in the model that gets the adapters; "" for this module itself.
        """
