"""Qwen2.5-VL (arXiv 2502.13923) and Qwen3-VL: any image size, three-axis rotary positions (M-RoPE).

Three traps. Qwen2.5-VL's merger emits windows, not raster rows, so the fusion enters at the vision model's
output, where both are raster. Positions that are left out are silently those of plain text, so they are made
here. Qwen3-VL adds DeepStack features after its first layers, which reach the language model only as
arguments; the second stream does not enter there.
"""

from typing import Any, ClassVar

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from vega_policy.backbones.families.base import (
    TINY_TEXT,
    Architecture,
    Family,
    Seen,
    continued,
    square_grid,
)

_VISION = ("<|vision_start|>", "<|vision_end|>")
_SPECIAL = ("<|image_pad|>", "<|video_pad|>", *_VISION, "<|im_start|>", "<|im_end|>")


class QwenVL(Family):
    """What both generations share."""

    image_token = "<|image_pad|>"
    special_tokens = _SPECIAL
    repeats_whole_samples = True

    def prompt(self, request: str, cameras: int, num_tokens: int) -> str:
        """The user's turn of the chat template."""
        image = f"{_VISION[0]}{self.image_token * num_tokens}{_VISION[1]}"
        return f"<|im_start|>user\n{image * cameras}{request}<|im_end|>\n<|im_start|>assistant\n"

    def default_image_size_px(self, config: Any) -> int:
        """16 x 16 tokens: the tower takes any size, and Wan reads the same grid from 256 px."""
        return 16 * _token_px(config.vision_config)

    def grid(self, config: Any, image_size_px: int) -> tuple[int, int]:
        """One token per merged block of patches."""
        return square_grid(image_size_px, _token_px(config.vision_config), self.model_type)

    def fused_module(self, model: Any) -> nn.Module:
        """The vision model."""
        return model.visual

    def tokens_of(self, output: Any) -> Tensor:
        """All images' tokens in one sequence."""
        return output.pooler_output

    def with_tokens(self, output: Any, tokens: Tensor) -> Any:
        """The same output object, its tokens exchanged."""
        output.pooler_output = tokens
        return output

    def see(self, model: Any, pixels: Float[Tensor, "images 3 height width"]) -> Seen:
        """Cuts images into patches as `Qwen2VLImageProcessor` does; the grid sizes stay on the CPU."""
        vision = model.config.vision_config
        patches, thw = flat_patches(
            pixels, vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
        )
        output = model.get_image_features(patches, image_grid_thw=thw)
        return Seen(torch.stack(output.pooler_output), getattr(output, "deepstack_features", None))

    def positions(
        self,
        is_image: Int[Tensor, "batch length"],
        mask: Int[Tensor, "batch length"],
        grid: tuple[int, int],
        extra: int,
    ) -> Int[Tensor, "3 batch total"]:
        """Equal to the stock `get_rope_index` for square images, without its loops and device syncs.

        Text advances all axes by one. An image starts where the text stands, spreads its rows and columns
        over the last two axes, and advances all axes by its side.
        """
        rows, cols = grid
        text = mask - is_image
        index = is_image.cumsum(-1) - 1
        image, cell = index.div(rows * cols, rounding_mode="floor"), index % (rows * cols)
        of_text = text.cumsum(-1) - 1 + (image + 1) * max(grid)
        corner = text.cumsum(-1) + image * max(grid)
        of_image = torch.stack([corner, corner + cell // cols, corner + cell % cols])
        prompt = torch.where(is_image.bool(), of_image, of_text.clamp(min=0))
        images = is_image.sum(-1).div(rows * cols, rounding_mode="floor")
        return continued(prompt, text.sum(-1) + images * max(grid), extra)

    def vocabulary_ids(self, tokenizer: Any) -> Architecture:
        """The placeholders and the tokens around them."""
        ids = {
            "video_token_id": "<|video_pad|>",
            "vision_start_token_id": _VISION[0],
            "vision_end_token_id": _VISION[1],
        }
        return super().vocabulary_ids(tokenizer) | {
            key: tokenizer.convert_tokens_to_ids(token) for key, token in ids.items()
        }


class Qwen25VL(QwenVL):
    """`Qwen2_5_VLForConditionalGeneration`."""

    model_type = "qwen2_5_vl"
    mean = (0.48145466, 0.4578275, 0.40821073)  # CLIP's
    std = (0.26862954, 0.26130258, 0.27577711)
    tiny: ClassVar[Architecture] = {
        "text_config": TINY_TEXT
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}},
        "vision_config": {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "window_size": 56,
            "fullatt_block_indexes": [1],
            "out_hidden_size": 32,
        },
    }

    def prompt(self, request: str, cameras: int, num_tokens: int) -> str:
        """With the system turn that its chat template adds."""
        system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        return system + super().prompt(request, cameras, num_tokens)


class Qwen3VL(QwenVL):
    """`Qwen3VLForConditionalGeneration`."""

    model_type = "qwen3_vl"
    tiny: ClassVar[Architecture] = {
        "text_config": TINY_TEXT
        | {
            "head_dim": 8,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
            },
        },
        "vision_config": {
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
            "out_hidden_size": 32,
        },
    }

    def deeper_inputs(self, seen: Seen, is_image: Tensor) -> dict[str, Any]:
        """DeepStack's features and where they are added."""
        return {"visual_pos_masks": is_image, "deepstack_visual_embeds": seen.deeper}


def flat_patches(
    pixels: Float[Tensor, "images 3 height width"], patch_px: int, merge: int, frames: int
) -> tuple[Float[Tensor, "patches dim_patch"], Int[Tensor, "images 3"]]:
    """Images as Qwen's flat patch vectors, merged blocks together, with their (time, rows, cols) sizes."""
    clips = repeat(pixels, "b c h w -> b t c h w", t=frames)
    patches = rearrange(
        clips,
        "b t c (gh mh ph) (gw mw pw) -> (b gh gw mh mw) (c t ph pw)",
        mh=merge,
        mw=merge,
        ph=patch_px,
        pw=patch_px,
    )
    size = [1, pixels.shape[-2] // patch_px, pixels.shape[-1] // patch_px]
    return patches, torch.tensor([size] * len(pixels), device="cpu")


def _token_px(vision_config: Any) -> int:
    return vision_config.patch_size * vision_config.spatial_merge_size


FAMILIES = {"qwen2_5_vl": Qwen25VL(), "qwen3_vl": Qwen3VL()}
