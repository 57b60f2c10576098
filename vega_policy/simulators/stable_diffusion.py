"""Stable Diffusion 2.1's image network, read after its middle block; nothing behind that block is kept.

Published weights moved between Hub repositories, so the id is a setting. Noise levels of all backbones mean
the same signal-to-noise ratio: k of 1000 is turned into the timestep of this network's own schedule at
which noise and signal have the ratio k : (1000 - k).
"""

from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor, nn

from vega_policy.simulators.base import Backbone
from vega_policy.simulators.config import FULL_NOISE, SimulatorConfig
from vega_policy.simulators.loading import PartLoader
from vega_policy.simulators.noise import fixed_noise
from vega_policy.simulators.prompt import clip_encoder, empty_prompt
from vega_policy.simulators.vae import FrameEncoder

TEXT_TOKENS = 77
"""Length of CLIP's text input."""
UNREAD = ("up_blocks", "conv_norm_out", "conv_act", "conv_out")
"""Modules behind the middle block."""


class StableDiffusionBackbone(Backbone):
    """The middle block's output for the newest frame.

    Attributes:
        signal: Factor of the latent.
        share: Factor of the noise.
        timestep: The network's time input, 0..999.
        prompt_embedding: The empty prompt, padding included; saved with the policy.
    """

    noise: Float[Tensor, "1 channels rows cols"]
    prompt_embedding: Float[Tensor, "tokens text_width"]

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        prompt_embedding: Float[Tensor, "tokens text_width"],
        config: SimulatorConfig,
    ) -> None:
        super().__init__()
        self.encoder = FrameEncoder(vae)
        self.dim, num_levels = unet.config.block_out_channels[-1], len(unet.config.block_out_channels)
        self.token_px = self.encoder.stride_px * 2 ** (num_levels - 1)
        self.unet = without(unet, UNREAD)
        self.signal, self.share, self.timestep = schedule_entry(config.resolved_noise_level)
        side = config.image_size_px // self.encoder.stride_px
        device = unet.conv_in.weight.device
        noise = fixed_noise(1, self.encoder.channels, side, side, config.noise_seed)[:, :, 0]
        self.register_buffer("noise", noise.to(device), persistent=False)
        self.register_buffer("prompt_embedding", prompt_embedding.to(device))

    def forward(
        self, canvas: Float[Tensor, "batch time 3 side side"]
    ) -> Float[Tensor, "batch rows cols dim"]:
        """The middle block's output for the newest frame."""
        latents = self.encoder(canvas[:, -1:])[:, :, 0] * self.encoder.scaling_factor
        noisy = (self.signal * latents + self.share * self.noise).to(self.unet.conv_in.weight.dtype)
        return self.middle(noisy).permute(0, 2, 3, 1)

    def middle(self, noisy: Float[Tensor, "batch channels rows cols"]) -> Float[Tensor, "batch dim r c"]:
        """The network up to and including its middle block."""
        unet = self.unet
        text = self.prompt_embedding.to(noisy.dtype).expand(len(noisy), -1, -1)
        time = unet.time_embedding(unet.get_time_embed(sample=noisy, timestep=self.timestep))
        hidden = unet.conv_in(noisy)
        for block in unet.down_blocks:
            options = {"encoder_hidden_states": text} if getattr(block, "has_cross_attention", False) else {}
            hidden, _ = block(hidden_states=hidden, temb=time, **options)
        return unet.mid_block(hidden, time, encoder_hidden_states=text)


def build(parts: PartLoader) -> StableDiffusionBackbone:
    """From a diffusers folder with `unet`, `vae` and, for the prompt, `text_encoder` and `tokenizer`."""
    unet = parts.diffusers(UNet2DConditionModel, "unet", parts.dtype)
    vae = parts.diffusers(AutoencoderKL, "vae", parts.vae_dtype)
    prompt = empty_prompt(parts, clip_encoder, width=unet.config.cross_attention_dim, tokens=TEXT_TOKENS)
    return StableDiffusionBackbone(vae, unet, prompt, parts.config)


def schedule_entry(k: int) -> tuple[float, float, int]:
    """Signal factor, noise factor and timestep nearest to noise : signal = k : (1000 - k).

    The schedule is the one Stable Diffusion was trained with (scaled linear, 0.00085 to 0.012). At k = 1000
    the signal is exactly zero.
    """
    schedule = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    signals = schedule.alphas_cumprod.sqrt()
    shares = (1.0 - schedule.alphas_cumprod).sqrt()
    if k == FULL_NOISE:
        return 0.0, 1.0, len(signals) - 1
    entry = int((shares / (signals + shares) - k / FULL_NOISE).abs().argmin())
    return float(signals[entry]), float(shares[entry]), entry


def without[Network: nn.Module](network: Network, names: tuple[str, ...]) -> Network:
    """The network with the named children gone."""
    for name in names:
        delattr(network, name)
    return network
