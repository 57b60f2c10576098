"""Stage two: Wan's transformer learns the flow from noise to the latents of pictures and clips.

Flow matching as in Wan (arXiv 2503.20314): z_t = (1 - t) z0 + t eps, the target is eps - z0, the time input
is 1000 t, and t is logit-normal (Esser et al., arXiv 2403.03206). Cross-attention sees the empty prompt in
the very form in which the frozen simulator will see it (`simulators.wan`), but with gradients.
"""

from pathlib import Path
from typing import cast

import numpy as np
import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttention
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vega_policy.simulators.config import FULL_NOISE
from vega_policy.simulators.wan import TEXT_TOKENS, FixedCrossAttention
from vega_policy.simulators.wan_vae import WanEncoder
from vega_policy.training.files import in_one_step
from vega_policy.training.pretraining_config import FlowStageConfig
from vega_policy.training.pretraining_frames import Frames
from vega_policy.training.pretraining_loop import Stage
from vega_policy.training.pretraining_vae import CLIP_FRAMES

ENCODE_BATCH = 16
VALIDATION_LATENTS, VALIDATION_TIMES = 64, (0.1, 0.3, 0.5, 0.7, 0.9)
Latents = Float[Tensor, "batch channels latent_time rows cols"]


class LearningCrossAttention(FixedCrossAttention):
    """`FixedCrossAttention` whose keys and values follow the weights."""

    def forward(
        self, attention: WanAttention, hidden: Float[Tensor, "batch tokens dim"], *text_and_masks: object
    ) -> Float[Tensor, "batch tokens dim"]:
        """The attention of `hidden` to the prompt's tokens and the padding, the last of the text's tokens."""
        text = cast(Tensor, text_and_masks[0])
        count = torch.ones(text.shape[1], device=text.device)
        count[-1] = TEXT_TOKENS - text.shape[1] + 1
        self.prepare(attention, text, count)
        return super().forward(attention, hidden)


class FlowStage(Stage):
    """Trains `model` on latents by their number of frames.

    Args:
        model: The transformer.
        prompt: The empty prompt's embedding.
        training: Normalised latents of frames (1) and of clips (2 latent frames).
        validation: The same of held-out episodes.
        config: How.
        seed: Of batches and noise.
    """

    name = "flow"

    def __init__(
        self,
        model: WanTransformer3DModel,
        prompt: Float[Tensor, "tokens text_dim"],
        training: dict[int, Latents],
        validation: dict[int, Latents],
        config: FlowStageConfig,
        seed: int,
    ) -> None:
        for block in model.blocks:
            block.attn2.set_processor(LearningCrossAttention())
        self.model, self.config, self.seed = model.train(), config, seed
        self._text = torch.cat([prompt, torch.zeros_like(prompt[:1])]).unsqueeze(0).to(model.device)
        self._training, self._validation = training, validation

    def losses(self, step: int) -> dict[str, Tensor]:
        """Of latents of single frames, or in every so many steps of clips."""
        rng, generator = self.rng(step)
        frames = 2 if step % self.config.clip_every == 0 else 1
        known = self._training[frames]
        chosen = torch.from_numpy(rng.integers(0, len(known), max(1, self.config.batch_size // frames)))
        times = torch.randn(len(chosen), generator=generator).sigmoid()
        return {"loss": self._errors(known[chosen], times, generator).mean()}

    def validate(self) -> dict[str, float]:
        """The velocity's squared error at several shares of noise, and their mean."""
        found: dict[str, float] = {}
        for frames, latents in self._validation.items():
            name = "frames" if frames == 1 else "clips"
            for time in VALIDATION_TIMES:
                _, generator = self.rng(0, frames, round(time * FULL_NOISE))
                errors = self._errors(latents, torch.full((len(latents),), time), generator)
                found[f"{name}_t{time}"] = errors.mean().item()
            found[f"{name}_loss"] = float(np.mean([found[f"{name}_t{time}"] for time in VALIDATION_TIMES]))
        return found

    def _errors(
        self, latents: Latents, times: Float[Tensor, " batch"], generator: torch.Generator
    ) -> Float[Tensor, " batch"]:
        noise = torch.randn(latents.shape, generator=generator)
        t = times.view(-1, 1, 1, 1, 1)
        noisy, target = (1 - t) * latents + t * noise, noise - latents
        velocity = self.velocity(noisy.to(self._text.device), times.to(self._text.device))
        return (velocity - target.to(velocity.device)).square().flatten(1).mean(dim=1)

    def velocity(self, noisy: Latents, times: Float[Tensor, " batch"]) -> Latents:
        """The predicted velocity from picture to noise."""
        return self.model(noisy, times * FULL_NOISE, self._text, return_dict=False)[0]


class LatentSource:
    """Mean latents of chosen rows, in files, so that an interrupted run need not encode again.

    Args:
        encoder: The trained one; its latents are not normalised yet.
        frames: The pictures.
        folder: Where the files go.
    """

    def __init__(self, encoder: WanEncoder, frames: Frames, folder: Path) -> None:
        self._encoder, self._frames, self._folder = encoder, frames, folder

    def training(self, num_frames: int, num_clips: int, rng: np.random.Generator) -> dict[int, Latents]:
        """Latents of frames and clips of training episodes, drawn with `rng`."""
        rows = self._frames.training_rows
        frames = np.sort(rng.choice(rows, min(num_frames, len(rows)), replace=False))
        clips = np.sort(rng.choice(rows, min(num_clips, len(rows)), replace=False))
        return {1: self._encode(frames, 1, "frames"), 2: self._encode(clips, CLIP_FRAMES, "clips")}

    def validation(self) -> dict[int, Latents]:
        """Latents of frames and clips spread over held-out episodes."""
        rows = self._frames.validation_rows
        chosen = rows[np.linspace(0, len(rows) - 1, VALIDATION_LATENTS).astype(int)]
        clips = chosen[::4]
        return {
            1: self._encode(chosen, 1, "held_out_frames"),
            2: self._encode(clips, CLIP_FRAMES, "held_out_clips"),
        }

    @torch.no_grad()
    def _encode(self, rows: Int64[NDArray[np.int64], " clips"], length: int, name: str) -> Latents:
        file = self._folder / f"latents_{name}.npy"
        if not file.is_file():
            self._write(file, rows, length)
        return torch.from_numpy(np.load(file))  # also at first: another memory layout sums in another order

    def _write(self, file: Path, rows: Int64[NDArray[np.int64], " clips"], length: int) -> None:
        device, encoded = self._encoder.latents_mean.device, []
        for batch in tqdm(np.array_split(rows, max(1, len(rows) // ENCODE_BATCH)), desc=file.stem):
            encoded.append(self._encoder(self._frames.clips(batch, length).to(device)).cpu())
        with in_one_step(file) as partial, partial.open("wb") as stream:
            np.save(stream, torch.cat(encoded).contiguous().numpy())


def channel_statistics(latents: dict[int, Latents]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each latent channel over all frames, as Wan normalises by."""
    values = torch.cat([group.transpose(0, 1).flatten(1) for group in latents.values()], dim=1)
    return values.mean(dim=1).tolist(), values.std(dim=1).tolist()


def normalised(latents: dict[int, Latents], mean: list[float], std: list[float]) -> dict[int, Latents]:
    """The latents as the transformer sees them."""
    shift, scale = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (mean, std))
    return {frames: (group - shift) / scale for frames, group in latents.items()}
