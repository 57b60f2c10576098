"""PaliGemma (arXiv 2407.07726): SigLIP, a linear projector and Gemma, whose prompt is not causal.

Positions count from 1, and Gemma scales word embeddings inside its embedding module but not visual tokens.
"""

from typing import Any, ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from vega_policy.backbones.families.base import (
    TINY_SIGLIP,
    TINY_TEXT,
    Architecture,
    Family,
    Seen,
    require_size,
    square_grid,
)


class PaliGemma(Family):
    """`PaliGemmaForConditionalGeneration`, with Gemma or Gemma 2."""

    model_type = "paligemma"
    special_tokens = ("<image>",)
    causal_prefix = False
    tiny: ClassVar[Architecture] = {
        "text_config": {"model_type": "gemma", "head_dim": 8, **TINY_TEXT},
        "vision_config": TINY_SIGLIP
        | {"model_type": "siglip_vision_model", "projection_dim": 32, "vision_use_head": False},
        "projection_dim": 32,
    }

    def prompt(self, request: str, cameras: int, num_tokens: int) -> str:
        """Images, the start token, the request and a line break."""
        return f"{self.image_token * num_tokens * cameras}<bos>{request}\n"

    def default_image_size_px(self, config: Any) -> int:
        """SigLIP's own."""
        return config.vision_config.image_size

    def grid(self, config: Any, image_size_px: int) -> tuple[int, int]:
        """One token per SigLIP patch."""
        vision = config.vision_config
        require_size(image_size_px, vision.image_size, "PaliGemma")
        return square_grid(image_size_px, vision.patch_size, "PaliGemma")

    def fused_module(self, model: Any) -> nn.Module:
        """The projector."""
        return model.multi_modal_projector

    def see(self, model: Any, pixels: Float[Tensor, "images 3 height width"]) -> Seen:
        """SigLIP and the projector."""
        return Seen(model.get_image_features(pixels.to(model.dtype)).pooler_output)

    def positions(
        self,
        is_image: Int[Tensor, "batch length"],
        mask: Int[Tensor, "batch length"],
        grid: tuple[int, int],
        extra: int,
    ) -> Int[Tensor, "batch total"]:
        """Counted from 1."""
        return super().positions(is_image, mask, grid, extra) + 1


FAMILIES = {"paligemma": PaliGemma()}
