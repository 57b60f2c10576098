"""Stage one: Wan's causal video autoencoder learns to give pictures back.

The loss is the squared error of pixels and a small KL divergence that keeps the latents bounded. The noise
of the posterior starts small: as strong as the latents, as usual, it drowns them for hundreds of steps.
"""

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from jaxtyping import Float
from torch import Tensor

from vega_policy.simulators.wan_vae import CHUNK_FRAMES
from vega_policy.training.pretraining_config import VaeStageConfig
from vega_policy.training.pretraining_frames import Frames
from vega_policy.training.pretraining_loop import Stage

CLIP_FRAMES = 1 + CHUNK_FRAMES
INITIAL_LOG_VARIANCE = -6.0
VALIDATION_FRAMES, VALIDATION_CLIPS = 48, 8
Video = Float[Tensor, "batch 3 time height width"]


class VaeStage(Stage):
    """Trains `model` on square crops of frames and of clips.

    Args:
        model: With the layers that `simulators.wan_vae.specialise` puts in.
        frames: What to learn from.
        config: How.
        seed: Of batches and noise.
    """

    name = "vae"
    model: AutoencoderKLWan

    def __init__(self, model: AutoencoderKLWan, frames: Frames, config: VaeStageConfig, seed: int) -> None:
        self.model, self.frames, self.config, self.seed = model.train(), frames, config, seed
        self._settings = config

    def losses(self, step: int) -> dict[str, Tensor]:
        """Of crops of single frames, or in every so many steps of clips."""
        rng, noise = self.rng(step)
        length = CLIP_FRAMES if step % self.config.clip_every == 0 else 1
        count = max(1, self.config.batch_size // length)
        clips = self.frames.clips(rng.choice(self.frames.training_rows, count), length)
        video = self.to_video(_crops(clips, self._settings.crop_px, rng))
        posterior = self.model.encode(video).latent_dist
        decoded = decode(self.model, posterior.sample(noise))
        squared = (decoded - video).square().mean()
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        return {"loss": squared + self._settings.kl_weight * kl, "squared_error": squared, "kl": kl}

    def validate(self) -> dict[str, float]:
        """The absolute error in units of the pixel range, and the peak signal-to-noise ratio in dB."""
        found = {}
        for name, count, length in (
            ("frames", VALIDATION_FRAMES, 1),
            ("clips", VALIDATION_CLIPS, CLIP_FRAMES),
        ):
            clips, decoded = self.reconstruct(count, length)
            found[f"{name}_l1"] = (decoded - clips).abs().mean().item()
            found[f"{name}_psnr_db"] = psnr_db(decoded, clips)
        return found

    @torch.no_grad()
    def reconstruct(
        self, count: int, length: int
    ) -> tuple[Float[Tensor, "batch length 3 side side"], Float[Tensor, "batch length 3 side side"]]:
        """Whole clips of held-out episodes, spread over them, and what the autoencoder makes of them."""
        rows = self.frames.validation_rows
        chosen = rows[torch.linspace(0, len(rows) - 1, count).long().numpy()]
        clips, decoded = self.frames.clips(chosen, length), []
        for batch in clips.split(8):
            posterior = self.model.encode(self.to_video(batch)).latent_dist
            decoded.append((decode(self.model, posterior.mode()).transpose(1, 2).cpu() + 1) / 2)
        return clips, torch.cat(decoded).clamp(0, 1)

    def to_video(self, clips: Float[Tensor, "batch time 3 height width"]) -> Video:
        """In the autoencoder's layout and range, on its device."""
        return (clips * 2 - 1).transpose(1, 2).to(self.model.device)


def _crops(
    clips: Float[Tensor, "batch time 3 side side"], side_px: int, rng: np.random.Generator
) -> Float[Tensor, "batch time 3 crop crop"]:
    """A square of each clip; all of it where it is no larger."""
    side = min(side_px, clips.shape[-1])
    corners = rng.integers(0, clips.shape[-1] - side + 1, (len(clips), 2))
    crops = [
        clip[..., top : top + side, left : left + side]
        for clip, (top, left) in zip(clips, corners, strict=True)
    ]
    return torch.stack(crops)


@torch.no_grad()
def start_with_little_noise(vae: AutoencoderKLWan) -> None:
    """Sets the bias of the posterior's log-variance, the second half of the encoder's output."""
    bias = vae.quant_conv.bias
    assert bias is not None
    bias[len(bias) // 2 :] = INITIAL_LOG_VARIANCE


def decode(vae: AutoencoderKLWan, latents: Float[Tensor, "batch channels latent_time rows cols"]) -> Video:
    """Pixels in about [-1, 1]; unlike `vae.decode` not clamped, so that every pixel has a gradient."""
    cache: list[Tensor | None] = [None] * sum(isinstance(m, WanCausalConv3d) for m in vae.decoder.modules())
    hidden = vae.post_quant_conv(latents)
    chunks = [
        vae.decoder(frame, feat_cache=cache, feat_idx=[0], first_chunk=index == 0)
        for index, frame in enumerate(hidden.split(1, dim=2))
    ]
    return torch.cat(chunks, dim=2)


def psnr_db(
    decoded: Float[Tensor, "batch time 3 side side"], original: Float[Tensor, "batch time 3 side side"]
) -> float:
    """Peak signal-to-noise ratio of pixels in [0, 1], averaged over the batch."""
    squared = (decoded - original).square().flatten(1).mean(dim=1)
    return (-10 * squared.log10()).mean().item()
