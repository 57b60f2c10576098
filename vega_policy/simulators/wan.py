"""Wan's video diffusion transformer, read at one block and one noise level.

Only the first `block + 1` blocks exist; the rest and the output head are neither run nor kept. What depends
on the noise level and the prompt alone (time modulation, text MLP, the keys and values of cross-attention)
is computed once, by `prepare`. Wan pads the empty prompt with zeros to 512 tokens and attends to all of
them without a mask; equal keys collapse exactly into one whose logit is raised by the log of their number.
"""

import math

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttention
from jaxtyping import Float
from torch import Tensor, nn

from vega_policy.simulators.base import Backbone
from vega_policy.simulators.config import SimulatorConfig
from vega_policy.simulators.loading import ROOT, PartLoader
from vega_policy.simulators.noise import NoiseLevel, exact_level, fixed_noise, reference_level
from vega_policy.simulators.prompt import empty_prompt, umt5_encoder
from vega_policy.simulators.wan_original import is_original, load_transformer, load_vae
from vega_policy.simulators.wan_vae import WanEncoder, check_whole_chunks, latent_frames

TEXT_TOKENS = 512
"""Length that Wan pads prompts to (Wan 2.1, text_len)."""


class FixedCrossAttention(nn.Module):
    """Wan's cross-attention to a text that never changes; a processor of diffusers' attention modules.

    Attributes:
        keys: Already scaled by 1 / sqrt(head width).
        values: One per key.
        log_count: Log of how many equal text tokens each key stands for.
    """

    _attention_backend = None  # diffusers reads both from any processor
    _parallel_config = None

    keys: Float[Tensor, "heads tokens width"]
    values: Float[Tensor, "heads tokens width"]
    log_count: Float[Tensor, " tokens"]

    def __init__(self) -> None:
        super().__init__()
        for name in ("keys", "values", "log_count"):
            self.register_buffer(name, torch.empty(0), persistent=False)

    def prepare(
        self, attention: WanAttention, text: Float[Tensor, "1 tokens dim"], count: Float[Tensor, " tokens"]
    ) -> None:
        """Computes keys and values of `text`, of which token i occurs `count[i]` times."""
        keys = attention.norm_k(attention.to_k(text))[0].unflatten(-1, (attention.heads, -1))
        values = attention.to_v(text)[0].unflatten(-1, (attention.heads, -1))
        self.keys = (keys / math.sqrt(keys.shape[-1])).transpose(0, 1).contiguous()
        self.values = values.transpose(0, 1).contiguous()
        self.log_count = count.log()

    def forward(
        self, attention: WanAttention, hidden: Float[Tensor, "batch tokens dim"], *_unused: object
    ) -> Float[Tensor, "batch tokens dim"]:
        """The attention of `hidden` to the text."""
        queries = attention.norm_q(attention.to_q(hidden)).unflatten(-1, (attention.heads, -1))
        logits = torch.einsum("bnhd,hkd->bnhk", queries, self.keys).float() + self.log_count
        weights = logits.softmax(dim=-1).to(self.values.dtype)
        mixed = torch.einsum("bnhk,hkd->bnhd", weights, self.values).flatten(2)
        return attention.to_out[0](mixed)


class WanBackbone(Backbone):
    """Hidden states of Wan's transformer after one block.

    Attributes:
        encoder: Frames to latents.
        transformer: The first blocks, and the embeddings before them.
        level: Share of noise and the time input.
        noise: The fixed noise; a shorter clip takes its beginning.
        prompt_embedding: The empty prompt's valid tokens; saved with the policy.
    """

    noise: Float[Tensor, "1 channels latent_time rows cols"]
    prompt_embedding: Float[Tensor, "tokens text_width"]
    modulation: Float[Tensor, "1 6 dim"]

    def __init__(
        self,
        vae: AutoencoderKLWan,
        transformer: WanTransformer3DModel,
        prompt_embedding: Float[Tensor, "tokens text_width"],
        config: SimulatorConfig,
    ) -> None:
        super().__init__()
        self.encoder = WanEncoder(vae)
        self.transformer = _without_head(transformer)
        for block in self.transformer.blocks:
            block.attn2.set_processor(FixedCrossAttention())
        self.dim = transformer.config.num_attention_heads * transformer.config.attention_head_dim
        self.token_px = self.encoder.stride_px * transformer.config.patch_size[1]
        self.level = _level(config)
        side = config.image_size_px // self.encoder.stride_px
        frames = latent_frames(config.clip_length)
        device = transformer.patch_embedding.weight.device
        noise = fixed_noise(frames, self.encoder.channels, side, side, config.noise_seed)
        self.register_buffer("noise", noise.to(device), persistent=False)
        self.register_buffer("prompt_embedding", prompt_embedding.to(device))
        self.register_buffer("modulation", torch.empty(0), persistent=False)

    def forward(
        self, canvas: Float[Tensor, "batch time 3 side side"]
    ) -> Float[Tensor, "batch rows cols dim"]:
        """The newest latent frame's tokens after the last kept block, which has seen the frames before."""
        return self.read(self.encoder(canvas))

    def read(
        self, latents: Float[Tensor, "batch channels latent_time height width"]
    ) -> Float[Tensor, "batch rows cols dim"]:
        """The newest latent frame's tokens.

        Args:
            latents: Normalised and clean, oldest frame first.
        """
        hidden, grid = self.hidden_states(latents)
        return hidden.unflatten(1, grid)[:, -1]

    def hidden_states(
        self, latents: Float[Tensor, "batch channels latent_time height width"]
    ) -> tuple[Float[Tensor, "batch tokens dim"], tuple[int, int, int]]:
        """The residual stream after the last kept block for all frames, and its (time, rows, cols)."""
        noisy = (1.0 - self.level.t) * latents + self.level.t * self.noise[:, :, : latents.shape[2]]
        wan = self.transformer
        patches = wan.patch_embedding(noisy.to(wan.patch_embedding.weight.dtype))
        rotary = wan.rope(noisy)
        hidden = patches.flatten(2).transpose(1, 2)
        for block in wan.blocks:
            hidden = block(hidden, None, self.modulation, rotary)
        return hidden, tuple(patches.shape[2:])

    def prepare(self) -> None:
        """Computes the folded convolutions and all that depends on the noise level and prompt alone."""
        self.encoder.fold()
        embedder = self.transformer.condition_embedder
        prompt = self.prompt_embedding.to(embedder.time_proj.weight.dtype)
        text = torch.cat([prompt, torch.zeros_like(prompt[:1])]).unsqueeze(0)
        count = torch.ones(text.shape[1], device=prompt.device)
        count[-1] = TEXT_TOKENS - len(prompt)
        timestep = torch.full((1,), self.level.timestep, device=prompt.device)
        _, modulation, context, _ = embedder(timestep, text)
        self.modulation = modulation.unflatten(1, (6, -1))
        for block in self.transformer.blocks:
            block.attn2.processor.prepare(block.attn2, context, count)

    def check_clip_length(self, frames: int) -> None:
        """Only clips of 1 + 4n frames."""
        check_whole_chunks(frames)


def build(parts: PartLoader) -> WanBackbone:
    """Wan from diffusers' or the original folder layout, or with random weights."""
    config = parts.config
    folder = parts.folder([ROOT, "transformer", "vae"], WAN_FILES) if parts.loads else None
    if folder is not None and is_original(folder):
        transformer = load_transformer(folder, num_blocks=config.block + 1, dtype=parts.dtype)
        vae = load_vae(folder, dtype=parts.vae_dtype)
    else:
        num_layers = parts.architecture("transformer").get("num_layers", 40)
        if not 0 <= config.block < num_layers:
            raise ValueError(
                f"expected block in 0..{num_layers - 1} for {num_layers} blocks, got {config.block}"
            )
        kept = {"num_layers": config.block + 1}
        transformer = parts.diffusers(WanTransformer3DModel, "transformer", parts.dtype, kept)
        vae = parts.diffusers(AutoencoderKLWan, "vae", parts.vae_dtype)
    prompt = empty_prompt(parts, umt5_encoder, width=transformer.config.text_dim, tokens=1)
    return WanBackbone(vae, transformer, prompt, config)


WAN_FILES = (
    "config.json",
    "diffusion_pytorch_model*.safetensors*",
    "Wan2.1_VAE.pth",
    "empty_prompt.safetensors",
)


def _level(config: SimulatorConfig) -> NoiseLevel:
    if config.control == "noise":  # pure: the reference's schedule ends a little before
        return exact_level(config.resolved_noise_level)
    lookup = reference_level if config.timestep_snapping == "reference" else exact_level
    return lookup(config.resolved_noise_level)


def _without_head(transformer: WanTransformer3DModel) -> WanTransformer3DModel:
    del transformer.norm_out, transformer.proj_out, transformer.scale_shift_table
    return transformer
