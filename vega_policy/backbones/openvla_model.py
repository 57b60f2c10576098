"""OpenVLA and OpenVLA-OFT (arXiv 2406.09246, 2502.19645) on stock transformers modules.

Two things are surprising, and both are OpenVLA-OFT's:

- Attention is bidirectional over the *whole* sequence, not only over the action slots: OFT copies the last
  row of the causal mask to every row. So the prefix sees the slots, unlike in the other families here.
- The state of action slot i is read one position *before* slot i; the last slot is never read.

The mask is passed explicitly as a boolean 4-D tensor. Only `sdpa` attention treats that as a mask (`eager`
would add it to the logits as zeros and ones), so `sdpa` is set here; no transformers class is patched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, override

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import LlamaConfig, LlamaModel

from vega_policy.backbones.base import Backbone, PromptTokens, Reading
from vega_policy.backbones.loading import ATTENTION
from vega_policy.backbones.openvla_prompt import OpenVlaPrompt
from vega_policy.backbones.prismatic import PrismaticArchitecture, PrismaticVision
from vega_policy.backbones.training import linears_inside
from vega_policy.fusion import Fusion


class OpenVla(Backbone):
    """DINOv2 + SigLIP, projector and Llama, with the fusion on the projected patches of each camera.

    Args:
        architecture: sizes of the three parts.
        tokenizer: Llama's, or any with a beginning, an end and the empty word.
        fusion: joins simulator tokens to the patches of one camera; its widths must fit.
    """

    def __init__(self, architecture: PrismaticArchitecture, tokenizer: Any, fusion: Fusion) -> None:
        super().__init__()
        self.prompter = OpenVlaPrompt(tokenizer)
        self.llm = LlamaModel(LlamaConfig(**architecture.text, attn_implementation=ATTENTION))
        self.hidden_dim = self.llm.config.hidden_size
        self.grid = (architecture.grid_side, architecture.grid_side)
        self.image_size_px = architecture.image_size_px
        self.vision = PrismaticVision(architecture, self.hidden_dim)
        self.fusion = fusion

    @override
    def prompt(self, tasks: Sequence[str], cameras: int) -> PromptTokens:
        return self.prompter(tasks)

    @override
    def read(
        self,
        images: Float[Tensor, "batch cameras 3 height width"],
        generative: Float[Tensor, "batch cameras n dim_generative"] | None,
        prompt: PromptTokens,
        proprio: Float[Tensor, "batch tokens dim"] | None,
        slots: Float[Tensor, "slots dim"],
    ) -> Reading:
        """As in the interface, except that the prefix sees the slots; states are float32.

        The sequence is `[BOS][patches, camera by camera][proprioception][prompt][slots][</s>]`.
        """
        self._check(images, prompt)
        patches, gate = self.see(images, generative)
        embeddings, present = self._sequence(patches, prompt, proprio, slots)
        states = self.llm(
            inputs_embeds=embeddings,
            attention_mask=bidirectional_mask(present),
            position_ids=positions(present),
            use_cache=False,
        ).last_hidden_state.float()
        first_slot = states.shape[1] - 1 - len(slots)
        return Reading(
            hidden=states[:, first_slot - 1 : first_slot - 1 + len(slots)],
            prefix=states[:, :first_slot],
            prefix_mask=present[:, :first_slot],
            gate=gate,
        )

    def see(
        self,
        images: Float[Tensor, "batch cameras 3 height width"],
        generative: Float[Tensor, "batch cameras n dim_generative"] | None,
    ) -> tuple[Float[Tensor, "batch cameras n dim"], Float[Tensor, "batch cameras n"] | None]:
        """Fused patches of every camera, and the gate if the fusion has one."""
        batch = len(images)
        patches = self.vision(images.flatten(0, 1))
        gate = None
        if generative is not None:
            fused = self.fusion(patches, generative.flatten(0, 1))
            patches, gate = fused.tokens, None if fused.gate is None else fused.gate.detach()
        by_camera = patches.unflatten(0, (batch, -1))
        return by_camera, None if gate is None else gate.unflatten(0, (batch, -1))

    @override
    def lora_targets(self, prefix: str) -> str:
        return linears_inside(self, self.llm, prefix)

    def _sequence(
        self,
        patches: Float[Tensor, "batch cameras n dim"],
        prompt: PromptTokens,
        proprio: Float[Tensor, "batch tokens dim"] | None,
        slots: Float[Tensor, "slots dim"],
    ) -> tuple[Float[Tensor, "batch length dim"], Bool[Tensor, "batch length"]]:
        """Input embeddings, and False where there is padding."""
        words = self.llm.embed_tokens(prompt.ids)
        batch = len(words)
        stop = self.llm.embed_tokens(prompt.ids.new_full((batch, 1), self.prompter.stop_id))
        before_words = [rearrange(patches, "b c n d -> b (c n) d")] + ([] if proprio is None else [proprio])
        seen = torch.cat([tokens.to(words.dtype) for tokens in before_words], dim=1)
        slot = slots.to(words.dtype).expand(batch, -1, -1)
        embeddings = torch.cat([words[:, :1], seen, words[:, 1:], slot, stop], dim=1)
        always = prompt.mask.new_ones
        present = torch.cat(
            [
                prompt.mask[:, :1],
                always(batch, seen.shape[1]),
                prompt.mask[:, 1:],
                always(batch, len(slots) + 1),
            ],
            dim=1,
        )
        return embeddings, present

    def _check(self, images: Tensor, prompt: PromptTokens) -> None:
        side = self.image_size_px
        if images.shape[-2:] != (side, side):
            raise ValueError(
                f"expected images of {side} x {side} px, got {tuple(images.shape[-2:])}: these vision towers "
                "take one size only; resize in the policy's image preparation"
            )
        if len(images) != len(prompt.ids):
            raise ValueError(
                f"expected one prompt per sample: {len(images)} samples, {len(prompt.ids)} prompts"
            )


def bidirectional_mask(present: Bool[Tensor, "batch length"]) -> Bool[Tensor, "batch 1 length length"]:
    """Every row sees every position that is not padding; True means attend."""
    length = present.shape[1]
    return present[:, None, None, :].expand(-1, 1, length, length)


def positions(present: Bool[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
    """Positions counted without the padding, so that padding does not change a sample."""
    return (present.cumsum(dim=1) - 1).clamp(min=0)
