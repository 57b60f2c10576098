"""An autoencoder's latent alone: what a picture's compression already knows, without any diffusion network.

Also the encoder that the image diffusion networks share.
"""

from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder, AutoencoderKLWan
from jaxtyping import Float
from torch import Tensor, nn

from vega_policy.simulators.base import Backbone
from vega_policy.simulators.config import SimulatorConfig
from vega_policy.simulators.loading import PartLoader
from vega_policy.simulators.noise import exact_level, fixed_noise
from vega_policy.simulators.wan_vae import WanEncoder, check_whole_chunks, latent_frames


class FrameEncoder(nn.Module):
    """The encoder half of an image autoencoder (diffusers' `AutoencoderKL` and its like), frame by frame.

    Attributes:
        channels: Latent channels.
        stride_px: Pixels per latent cell along one side.
        scaling_factor: What the diffusion network expects the mean latent to be multiplied by.
    """

    def __init__(self, vae: AutoencoderKL | AutoencoderKLTemporalDecoder) -> None:
        super().__init__()
        self.encoder, self.quant_conv = vae.encoder, vae.quant_conv
        self.channels: int = vae.config.latent_channels
        self.stride_px = 2 ** (len(vae.config.block_out_channels) - 1)
        self.scaling_factor: float = vae.config.scaling_factor

    def forward(
        self, clips: Float[Tensor, "batch time 3 height width"]
    ) -> Float[Tensor, "batch channels time rows cols"]:
        """Unscaled mean latents of pixels in [0, 1]."""
        frames = (clips.flatten(0, 1) * 2.0 - 1.0).to(self.encoder.conv_in.weight.dtype)
        moments = self.encoder(frames)
        if self.quant_conv is not None:
            moments = self.quant_conv(moments)
        return moments[:, : self.channels].float().unflatten(0, clips.shape[:2]).transpose(1, 2)


class LatentBackbone(Backbone):
    """The newest latent frame, each cell a token.

    Attributes:
        encoder: Frames to latents.
        noise: The fixed noise.
        t: Share of noise; 0 reads the latent as it is.
    """

    noise: Float[Tensor, "1 channels latent_time rows cols"]

    def __init__(self, encoder: FrameEncoder | WanEncoder, config: SimulatorConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.dim, self.token_px = encoder.channels, encoder.stride_px
        self.t = exact_level(config.resolved_noise_level).t
        self._is_video = isinstance(encoder, WanEncoder)
        frames = latent_frames(config.clip_length) if self._is_video else 1
        side = config.image_size_px // self.token_px
        noise = fixed_noise(frames, self.dim, side, side, config.noise_seed)
        device = next(encoder.parameters()).device
        self.register_buffer("noise", noise.to(device), persistent=False)

    def forward(
        self, canvas: Float[Tensor, "batch time 3 side side"]
    ) -> Float[Tensor, "batch rows cols dim"]:
        """The newest latent frame with its share of noise."""
        latents = self.encoder(canvas if self._is_video else canvas[:, -1:])
        newest = latents.shape[2] - 1
        noisy = (1.0 - self.t) * latents[:, :, newest] + self.t * self.noise[:, :, newest]
        return noisy.permute(0, 2, 3, 1)

    def prepare(self) -> None:
        """Folds a video encoder's convolutions."""
        if isinstance(self.encoder, WanEncoder):
            self.encoder.fold()

    def check_clip_length(self, frames: int) -> None:
        """A video encoder would drop frames that do not fill its chunks."""
        if self._is_video:
            check_whole_chunks(frames)


def build(parts: PartLoader) -> LatentBackbone:
    """An image autoencoder, or Wan's where the configuration file names its class."""
    if parts.architecture("vae").get("_class_name") == "AutoencoderKLWan":
        return LatentBackbone(
            WanEncoder(parts.diffusers(AutoencoderKLWan, "vae", parts.vae_dtype)), parts.config
        )
    return LatentBackbone(FrameEncoder(parts.diffusers(AutoencoderKL, "vae", parts.vae_dtype)), parts.config)
