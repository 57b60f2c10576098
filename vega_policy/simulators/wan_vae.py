"""Wan's video autoencoder as an encoder alone: frames to normalised latents, in the chunks Wan encodes in.

A lone first frame meets only zero padding in time, so each causal 3D convolution is there a 2D one with
its last temporal tap: a third of the work, the same numbers. `FoldedCausalConv3d` takes that path by
itself. Both replacements here keep the original layers' parameters and their names.
"""

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanRMS_norm
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

CHUNK_FRAMES = 4
"""Frames that make one latent frame, after the first frame, which makes one by itself."""

TINY = 1e-24
"""Square of the smallest length that the original norm divides by."""

Cache = list[Tensor | None]
"""The last frames that each causal convolution saw; as long as there are convolutions, None before any."""


def latent_frames(clip_length: int) -> int:
    """Latent frames of a clip of 1 + 4n frames."""
    return 1 + (clip_length - 1) // CHUNK_FRAMES


def check_whole_chunks(frames: int) -> None:
    """Refuses clips of which the library would drop the last frames silently.

    Raises:
        ValueError: The length is not 1 + 4n.
    """
    if frames % CHUNK_FRAMES != 1:
        raise ValueError(f"expected clips of 1 + 4n frames, oldest first, got {frames}")


class FoldedCausalConv3d(WanCausalConv3d):
    """A causal convolution that sees a lone frame without history as a picture.

    Pictures lie channels last in memory, which halves the time of layers with few channels on a CPU.
    A frozen one uses the kernel that `fold` derived; one that learns its weights, which need gradients.

    Attributes:
        last_tap: The kernel of the newest frame, derived from `weight` by `fold`.
    """

    last_tap: Float[Tensor, "out_channels in_channels rows cols"]

    def __init__(self, original: WanCausalConv3d) -> None:
        with torch.device("meta"):
            super().__init__(
                original.in_channels, original.out_channels, original.kernel_size, original.stride
            )
        self.weight, self.bias = original.weight, original.bias
        self._padding = original._padding
        self.register_buffer("last_tap", torch.empty(0), persistent=False)
        self.fold()

    def fold(self) -> None:
        """Derives the 2D kernel anew from the weights."""
        self.last_tap = self.weight.detach()[:, :, -1].contiguous()

    def forward(
        self, x: Float[Tensor, "batch channels time rows cols"], cache_x: Tensor | None = None
    ) -> Float[Tensor, "batch out_channels out_time out_rows out_cols"]:
        """Convolves; `cache_x` holds the frames before `x`."""
        if cache_x is not None or x.shape[2] != 1:
            return super().forward(x, cache_x)
        kernel = self.weight[:, :, -1] if self.weight.requires_grad else self.last_tap
        margins = (self._padding[2], self._padding[0])
        picture = x.squeeze(2)
        if not torch.compiler.is_compiling():  # torch 2.11 then computes other numbers
            picture = picture.contiguous(memory_format=torch.channels_last)
        return F.conv2d(picture, kernel, self.bias, self.stride[1:], margins).unsqueeze(2)


class ChannelNorm(nn.Module):
    """Wan's root-mean-square norm over channels, by a sum of squares.

    torch's vector norm over a strided axis is some thirty times slower on a CPU.
    """

    def __init__(self, original: WanRMS_norm) -> None:
        super().__init__()
        self.gamma, self.scale = original.gamma, original.scale

    def forward(self, x: Float[Tensor, "batch channels *place"]) -> Float[Tensor, "batch channels *place"]:
        """Scales every place's channel vector to length sqrt(channels), then by `gamma`."""
        inverse_length = x.float().square().sum(dim=1, keepdim=True).clamp_min(TINY).rsqrt()
        return (x * inverse_length).to(x.dtype) * (self.scale * self.gamma)


def specialise(module: nn.Module) -> None:
    """Replaces, in place, the layers below `module` that the two classes above do faster."""
    for name, child in module.named_children():
        if isinstance(child, WanCausalConv3d):
            setattr(module, name, FoldedCausalConv3d(child))
        elif isinstance(child, WanRMS_norm):
            setattr(module, name, ChannelNorm(child))
        else:
            specialise(child)


class WanEncoder(nn.Module):
    """The encoder half of Wan's autoencoder, with Wan's normalisation of the latents.

    Attributes:
        channels: Latent channels.
        stride_px: Pixels per latent cell along one side.
    """

    latents_mean: Float[Tensor, "channels 1 1 1"]
    latents_std: Float[Tensor, "channels 1 1 1"]

    def __init__(self, vae: AutoencoderKLWan) -> None:
        super().__init__()
        self.encoder, self.quant_conv = vae.encoder, vae.quant_conv
        self._num_convolutions = sum(isinstance(m, WanCausalConv3d) for m in vae.encoder.modules())
        specialise(self)
        self.channels: int = vae.config.z_dim
        self.stride_px: int = vae.config.scale_factor_spatial
        device = self.quant_conv.weight.device
        for name in ("latents_mean", "latents_std"):
            statistic = torch.tensor(getattr(vae.config, name), device=device).view(-1, 1, 1, 1)
            self.register_buffer(name, statistic, persistent=False)

    def fold(self) -> None:
        """Derives the 2D kernels anew from the weights."""
        for module in self.modules():
            if isinstance(module, FoldedCausalConv3d):
                module.fold()

    def forward(
        self, clips: Float[Tensor, "batch time 3 height width"]
    ) -> Float[Tensor, "batch channels latent_time rows cols"]:
        """Mean latents of whole clips of 1 + 4n frames with pixels in [0, 1], normalised as Wan's are."""
        frames, chunks = clips.shape[1], [clips[:, :1]]
        cache = self.new_cache() if frames > 1 else None
        chunks += [clips[:, i : i + CHUNK_FRAMES] for i in range(1, frames, CHUNK_FRAMES)]
        return torch.cat([self.encode_chunk(chunk, cache) for chunk in chunks], dim=2)

    def new_cache(self) -> Cache:
        """The cache before the first frame."""
        return [None] * self._num_convolutions

    def encode_chunk(
        self, chunk: Float[Tensor, "batch time 3 height width"], cache: Cache | None
    ) -> Float[Tensor, "batch channels 1 rows cols"]:
        """The next latent frame.

        Args:
            chunk: The first frame of a clip, or the next four, with pixels in [0, 1].
            cache: What the frames before have left; updated in place. None for a lone frame: nothing is
                kept of it.
        """
        pixels = (chunk * 2.0 - 1.0).transpose(1, 2).to(self.quant_conv.weight.dtype)
        hidden = self.encoder(pixels, feat_cache=cache, feat_idx=[0])
        mean = self.quant_conv(hidden)[:, : self.channels].float()
        return (mean - self.latents_mean) / self.latents_std
