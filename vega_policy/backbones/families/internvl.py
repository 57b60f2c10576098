"""InternVL3 (arXiv 2504.10479) in its transformers form: InternViT, pixel shuffle, an MLP and Qwen2."""

from typing import Any, ClassVar

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


class InternVL(Family):
    """`InternVLForConditionalGeneration`; the tower interpolates its positions to other sizes."""

    model_type = "internvl"
    image_token = "<IMG_CONTEXT>"
    special_tokens = ("<IMG_CONTEXT>", "<img>", "</img>", "<|im_start|>", "<|im_end|>")
    mean = (0.485, 0.456, 0.406)  # ImageNet's
    std = (0.229, 0.224, 0.225)
    tiny: ClassVar[Architecture] = {
        "text_config": {"model_type": "qwen2", **TINY_TEXT},
        "vision_config": TINY_SIGLIP | {"image_size": [56, 56], "patch_size": [14, 14]},
        "downsample_ratio": 0.5,
    }

    def prompt(self, request: str, cameras: int, num_tokens: int) -> str:
        """The user's turn of the chat template, every image as one tile."""
        images = f"<img>{self.image_token * num_tokens}</img>\n" * cameras
        return f"<|im_start|>user\n{images}{request}<|im_end|>\n<|im_start|>assistant\n"

    def default_image_size_px(self, config: Any) -> int:
        """The vision tower's own."""
        return config.vision_config.image_size[0]

    def grid(self, config: Any, image_size_px: int) -> tuple[int, int]:
        """One token per shuffled block of patches."""
        token_px = round(config.vision_config.patch_size[0] / config.downsample_ratio)
        return square_grid(image_size_px, token_px, "InternVL")

    def fused_module(self, model: Any) -> nn.Module:
        """The projector behind the pixel shuffle."""
        return model.multi_modal_projector

    def see(self, model: Any, pixels: Float[Tensor, "images 3 height width"]) -> Seen:
        """One tile per image."""
        return Seen(model.get_image_features(pixels).pooler_output)


FAMILIES = {"internvl": InternVL()}
