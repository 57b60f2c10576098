"""LLaVA-OneVision (arXiv 2408.03326): SigLIP, an MLP projector and Qwen2.

A lone image is cut into a base tile and a high-resolution mosaic; the images of a multi-image sample are one
tile each. `see` asks for the latter whatever the number of images, so that a camera is one square grid plus
one `image_newline` token at its end, which the fusion leaves alone.
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
    require_size,
)


class LlavaOnevision(Family):
    """`LlavaOnevisionForConditionalGeneration`."""

    model_type = "llava_onevision"
    special_tokens = ("<image>", "<video>", "<|im_start|>", "<|im_end|>")
    tiny: ClassVar[Architecture] = {
        "text_config": {"model_type": "qwen2", **TINY_TEXT},
        "vision_config": {"model_type": "siglip_vision_model", "vision_use_head": False, **TINY_SIGLIP},
        "image_grid_pinpoints": [[56, 56]],
    }

    def prompt(self, request: str, cameras: int, num_tokens: int) -> str:
        """The chat template of the published checkpoints."""
        images = self.image_token * num_tokens * cameras
        return f"<|im_start|>user {images}\n{request}<|im_end|><|im_start|>assistant\n"

    def default_image_size_px(self, config: Any) -> int:
        """SigLIP's own."""
        return config.vision_config.image_size

    def grid(self, config: Any, image_size_px: int) -> tuple[int, int]:
        """One token per SigLIP patch; the patch size need not divide the image (384 / 14 = 27)."""
        vision = config.vision_config
        require_size(image_size_px, vision.image_size, "LLaVA-OneVision")
        side = image_size_px // vision.patch_size
        return side, side

    def placeholders(self, grid: tuple[int, int]) -> int:
        """The grid and the newline token behind it."""
        return grid[0] * grid[1] + 1

    def fused_module(self, model: Any) -> nn.Module:
        """The projector, which sees whole tiles before newlines are added."""
        return model.multi_modal_projector

    def see(self, model: Any, pixels: Float[Tensor, "images 3 height width"]) -> Seen:
        """One tile per image."""
        count, _, height, width = pixels.shape
        several = [max(count, 2)]  # a count of 1 would ask for the mosaic
        output = model.get_image_features(
            pixels, image_sizes=[(height, width)] * count, batch_num_images=several
        )
        return Seen(torch.stack(output.pooler_output))

    def vocabulary_ids(self, tokenizer: Any) -> Architecture:
        """The image and the video placeholder."""
        return super().vocabulary_ids(tokenizer) | {
            "video_token_id": tokenizer.convert_tokens_to_ids("<video>")
        }


FAMILIES = {"llava_onevision": LlavaOnevision()}
