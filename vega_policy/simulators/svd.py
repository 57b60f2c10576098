"""Stable Video Diffusion's network, read after its middle block; nothing behind that block is kept.

It continues a clip from a conditioning picture, here the clip's oldest frame: as an embedding and as a
clean latent beside each noisy one. Its noise is of the variance-exploding kind, so k of 1000 becomes
sigma = k / (1000 - k), the same signal-to-noise ratio as elsewhere (EDM preconditioning, arXiv 2206.00364).
"""

import math

import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from vega_policy.simulators.base import Backbone
from vega_policy.simulators.config import FULL_NOISE, SimulatorConfig
from vega_policy.simulators.geometry import normalise, resize_frames
from vega_policy.simulators.loading import PartLoader
from vega_policy.simulators.noise import fixed_noise
from vega_policy.simulators.stable_diffusion import UNREAD, without
from vega_policy.simulators.vae import FrameEncoder

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
FPS_ID, MOTION_BUCKET, NOISE_AUGMENTATION = 6.0, 127.0, 0.0
"""Conditions of the library's pipeline (7 frames/s, counted from 0), without its noise on the picture."""
SIGMA_MIN, SIGMA_MAX = 0.002, 700.0
"""Ends of the range that the network was trained on."""


class SvdBackbone(Backbone):
    """The middle block's output for the newest frame of a clip."""

    noise: Float[Tensor, "1 time channels rows cols"]
    conditions: Float[Tensor, "1 3"]

    def __init__(
        self,
        vae: AutoencoderKLTemporalDecoder,
        unet: UNetSpatioTemporalConditionModel,
        image_encoder: CLIPVisionModelWithProjection,
        config: SimulatorConfig,
    ) -> None:
        super().__init__()
        self.encoder, self.image_encoder = FrameEncoder(vae), image_encoder
        self.dim, num_levels = unet.config.block_out_channels[-1], len(unet.config.block_out_channels)
        self.token_px = self.encoder.stride_px * 2 ** (num_levels - 1)
        self.unet = without(unet, UNREAD)
        self.signal, self.share, self.timestep = preconditioned(config.resolved_noise_level)
        side = config.image_size_px // self.encoder.stride_px
        noise = fixed_noise(config.clip_length, self.encoder.channels, side, side, config.noise_seed)
        device = unet.conv_in.weight.device
        self.register_buffer("noise", noise.transpose(1, 2).to(device), persistent=False)
        conditions = torch.tensor([[FPS_ID, MOTION_BUCKET, NOISE_AUGMENTATION]], device=device)
        self.register_buffer("conditions", conditions, persistent=False)

    def forward(
        self, canvas: Float[Tensor, "batch time 3 side side"]
    ) -> Float[Tensor, "batch rows cols dim"]:
        """The middle block's output for the newest frame, having seen the older ones."""
        latents = self.encoder(canvas).transpose(1, 2)
        scaled = latents * self.encoder.scaling_factor
        noisy = self.signal * scaled + self.share * self.noise[:, : canvas.shape[1]]
        picture = latents[:, :1].expand_as(latents)
        hidden = self.middle(torch.cat([noisy, picture], dim=2), self.embed(canvas[:, 0]))
        return hidden[:, -1].permute(0, 2, 3, 1)

    def embed(self, pictures: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch 1 width"]:
        """CLIP's embedding of the conditioning picture."""
        size_px = self.image_encoder.config.image_size
        pixels = normalise(resize_frames(pictures, size_px, size_px), CLIP_MEAN, CLIP_STD)
        weight = self.image_encoder.visual_projection.weight
        return self.image_encoder(pixels.to(weight.dtype)).image_embeds.unsqueeze(1)

    def middle(
        self,
        sample: Float[Tensor, "batch time channels rows cols"],
        picture: Float[Tensor, "batch 1 width"],
    ) -> Float[Tensor, "batch time dim r c"]:
        """The network up to and including its middle block."""
        unet, (batch, frames) = self.unet, sample.shape[:2]
        dtype = unet.conv_in.weight.dtype
        per_frame = {
            "temb": self._time(dtype).expand(batch * frames, -1),
            "image_only_indicator": sample.new_zeros(batch, frames, dtype=dtype),
        }
        text = {"encoder_hidden_states": picture.to(dtype).repeat_interleave(frames, dim=0)}
        hidden = unet.conv_in(sample.flatten(0, 1).to(dtype))
        for block in unet.down_blocks:
            crosses = getattr(block, "has_cross_attention", False)
            hidden, _ = block(hidden_states=hidden, **per_frame, **(text if crosses else {}))
        return unet.mid_block(hidden_states=hidden, **per_frame, **text).unflatten(0, (batch, frames))

    def _time(self, dtype: torch.dtype) -> Float[Tensor, "1 width"]:
        unet = self.unet
        timestep = torch.full((1,), self.timestep, device=self.noise.device)
        time = unet.time_embedding(unet.time_proj(timestep).to(dtype))
        conditions = unet.add_time_proj(self.conditions.flatten()).reshape(1, -1).to(dtype)
        return time + unet.add_embedding(conditions)


def build(parts: PartLoader) -> SvdBackbone:
    """From a diffusers folder with `unet`, `vae` and `image_encoder`."""
    return SvdBackbone(
        parts.diffusers(AutoencoderKLTemporalDecoder, "vae", parts.vae_dtype),
        parts.diffusers(UNetSpatioTemporalConditionModel, "unet", parts.dtype),
        parts.transformers(CLIPVisionModelWithProjection, "image_encoder", parts.dtype),
        parts.config,
    )


def preconditioned(k: int) -> tuple[float, float, float]:
    """Factor of the latent, factor of the noise and time input for noise : signal = k : (1000 - k).

    At k = 1000 the latent's factor is exactly zero.
    """
    if k == FULL_NOISE:
        return 0.0, 1.0, 0.25 * math.log(SIGMA_MAX)
    sigma = max(k / (FULL_NOISE - k), SIGMA_MIN)
    scale = 1.0 / math.sqrt(sigma**2 + 1.0)
    return scale, sigma * scale, 0.25 * math.log(sigma)
