"""Idefics3 (arXiv 2408.12637) and SmolVLM (arXiv 2504.05299): SigLIP, pixel shuffle and a small LLM.

Their stock `get_image_features` takes an image whose normalised pixels are all exactly zero (uniform grey
0.5) for padding and drops it; `see` calls the two modules inside it instead, which keeps every camera.
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vega_policy.backbones.families.base import (
    TINY_SIGLIP,
    TINY_TEXT,
    Architecture,
    Family,
    Seen,
    square_grid,
)


class Idefics3(Family):
    """`Idefics3ForConditionalGeneration`."""

    model_type = "idefics3"
    start_token: ClassVar[str] = "<|begin_of_text|>"
    special_tokens: ClassVar[tuple[str, ...]] = (
        "<image>",
        "<fake_token_around_image>",
        "<global-img>",
        "<end_of_utterance>",
        "<|begin_of_text|>",
    )
    tiny: ClassVar[Architecture] = {
        "text_config": {"model_type": "llama", **TINY_TEXT},
        "vision_config": TINY_SIGLIP | {"image_size": 64, "patch_size": 8},
        "scale_factor": 2,
    }

    def prompt(self, request: str, cameras: int, num_tokens: int) -> str:
        """The chat template, every image as one unsplit tile."""
        fence = "<fake_token_around_image>"
        image = f"{fence}<global-img>{self.image_token * num_tokens}{fence}"
        return f"{self.start_token}User:{image * cameras}{request}<end_of_utterance>\nAssistant:"

    def default_image_size_px(self, config: Any) -> int:
        """The vision tower's own; smaller ones work, larger ones have no positions."""
        return config.vision_config.image_size

    def grid(self, config: Any, image_size_px: int) -> tuple[int, int]:
        """One token per shuffled block of patches."""
        vision = config.vision_config
        if image_size_px > vision.image_size:
            raise ValueError(
                f"{self.model_type}'s vision tower takes up to {vision.image_size} px, "
                f"got backbone.image_size_px={image_size_px}"
            )
        return square_grid(image_size_px, vision.patch_size * config.scale_factor, self.model_type)

    def fused_module(self, model: Any) -> nn.Module:
        """The connector: pixel shuffle and projection."""
        return model.connector

    def language_model(self, model: Any) -> Any:
        """Named otherwise than in the other families."""
        return model.text_model

    def see(self, model: Any, pixels: Float[Tensor, "images 3 height width"]) -> Seen:
        """Vision tower and connector, nothing dropped."""
        pixels = pixels.to(model.dtype)
        side = pixels.shape[-1] // model.config.vision_config.patch_size
        patches = torch.ones(len(pixels), side, side, dtype=torch.bool, device=pixels.device)
        output = model.vision_model(pixel_values=pixels, patch_attention_mask=patches)
        return Seen(model.connector(output.last_hidden_state))


class SmolVLM(Idefics3):
    """`SmolVLMForConditionalGeneration`."""

    model_type = "smolvlm"
    start_token = "<|im_start|>"
    special_tokens = (*Idefics3.special_tokens[:-1], "<|im_start|>")


FAMILIES = {"idefics3": Idefics3(), "smolvlm": SmolVLM()}
