"""Noise levels and the one fixed noise tensor, so that equal pictures have equal features.

Flow matching mixes `z = (1 - t) z0 + t eps` with t = k/1000 (VEGA-3D, arXiv 2603.19235, equation 4).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vega_policy.simulators.config import FULL_NOISE

REFERENCE_STEPS, REFERENCE_SHIFT = 1000, 5.0
"""The schedule that VEGA-3D's own extractor searches: Wan's UniPC flow schedule, 1000 steps, shift 5."""


@dataclass(frozen=True)
class NoiseLevel:
    """Where on the path from picture (0) to noise (1) the latent lies, and what the network is told.

    Attributes:
        t: Share of noise in the mixture, 0..1.
        timestep: The network's time input, 0..1000.
    """

    t: float
    timestep: float


def exact_level(k: int) -> NoiseLevel:
    """The share k/1000 and the timestep k."""
    return NoiseLevel(k / FULL_NOISE, float(k))


def reference_level(k: int) -> NoiseLevel:
    """The entry of the reference schedule nearest to k.

    Its timesteps are cut to integers. Where several share one, the second is taken, as diffusers'
    schedulers do so as not to skip the first step of a partial denoising.
    """
    sigmas, timesteps = _reference_schedule()
    nearest = timesteps[(timesteps - k).abs().argmin()]
    entries = (timesteps == nearest).nonzero().flatten()
    entry = entries[1] if len(entries) > 1 else entries[0]
    return NoiseLevel(float(sigmas[entry]), float(nearest))


def _reference_schedule() -> tuple[Float[Tensor, " steps"], Int[Tensor, " steps"]]:
    last = 1.0 - 1.0 / REFERENCE_STEPS
    grid = torch.linspace(last, 0.0, REFERENCE_STEPS + 1, dtype=torch.float64)[:-1]
    sigmas = REFERENCE_SHIFT * grid / (1.0 + (REFERENCE_SHIFT - 1.0) * grid)
    return sigmas, (sigmas * FULL_NOISE).long()


def fixed_noise(
    frames: int, channels: int, rows: int, cols: int, seed: int
) -> Float[Tensor, "1 channels frames rows cols"]:
    """Standard normal noise that depends on the seed alone: drawn on the CPU in float32, frame by frame.

    Frame-major order makes the noise of a short clip the beginning of that of a longer one.
    """
    generator = torch.Generator(device="cpu").manual_seed(seed)
    drawn = torch.randn(frames, channels, rows, cols, generator=generator, device="cpu")
    return drawn.transpose(0, 1).unsqueeze(0).contiguous()
