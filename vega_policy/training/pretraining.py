"""From videos to a frozen world simulator: the autoencoder, its latents, the transformer, one folder.

The folder has diffusers' layout (`vae`, `transformer`) with the empty prompt's embedding beside them, so that
it is loaded by `simulator.source` like a published model. It appears in one step when all is done.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from vega_policy.simulators.loading import seeded_init
from vega_policy.simulators.prompt import FILE as PROMPT_FILE
from vega_policy.simulators.prompt import save_prompt
from vega_policy.simulators.wan_vae import WanEncoder, specialise
from vega_policy.training.files import in_one_step
from vega_policy.training.logs import METRICS
from vega_policy.training.pretraining_config import PretrainConfig
from vega_policy.training.pretraining_flow import FlowStage, LatentSource, channel_statistics, normalised
from vega_policy.training.pretraining_frames import Frames, load_frames
from vega_policy.training.pretraining_loop import fit
from vega_policy.training.pretraining_sheet import save_sheet
from vega_policy.training.pretraining_vae import VaeStage, start_with_little_noise

SHEET, CARD = "reconstructions.png", "pretraining.json"
SHEET_FRAMES = 24


def pretrain(config: PretrainConfig, provenance: Mapping[str, Any]) -> dict[str, float]:
    """Trains both networks and writes `config.output_dir`.

    Args:
        config: What to train from, what and how; finished parts in `config.work_dir` are kept.
        provenance: What identifies the run; goes to `pretraining.json` with the validation.

    Returns:
        The validation metrics of both stages.

    Raises:
        FloatingPointError: A loss was not finite.
        ValueError: The dataset cannot be trained from.
    """
    work = config.work_dir
    work.mkdir(parents=True, exist_ok=True)
    vae, transformer, prompt = _untrained(config)
    frames = load_frames(config.videos, config.simulator.image_size_px, _token_px(vae, transformer), work)
    vae_stage = VaeStage(vae, frames, config.vae, config.seed)
    fit(vae_stage, work)
    pictures = vae_stage.reconstruct(SHEET_FRAMES, 1)
    save_sheet(work / SHEET, pictures[0].squeeze(1), pictures[1].squeeze(1))
    flow_stage, statistics = _flow_stage(config, vae, transformer, prompt, frames)
    fit(flow_stage, work)
    with torch.no_grad():
        validation = vae_stage.validate() | flow_stage.validate()
    card = {**provenance, "validation": validation}
    _write(config.output_dir, work, vae, statistics, transformer, prompt, card)
    return validation


def _untrained(config: PretrainConfig) -> tuple[AutoencoderKLWan, WanTransformer3DModel, torch.Tensor]:
    architecture = config.simulator.architecture
    with seeded_init(config.seed):
        vae = AutoencoderKLWan(**architecture.get("vae", {}))
        transformer = WanTransformer3DModel(**architecture.get("transformer", {}))
        prompt = torch.randn(1, transformer.config.text_dim)
    start_with_little_noise(vae)
    specialise(vae)
    return vae.to(config.device), transformer.to(config.device), prompt


def _token_px(vae: AutoencoderKLWan, transformer: WanTransformer3DModel) -> int:
    return int(vae.config.scale_factor_spatial * transformer.config.patch_size[1])


def _flow_stage(
    config: PretrainConfig,
    vae: AutoencoderKLWan,
    transformer: WanTransformer3DModel,
    prompt: torch.Tensor,
    frames: Frames,
) -> tuple[FlowStage, dict[str, list[float]]]:
    """The second stage, and the statistics by which its latents are normalised."""
    source = LatentSource(_raw_encoder(vae), frames, config.work_dir)
    training = source.training(
        config.flow.num_frames, config.flow.num_clips, np.random.default_rng(config.seed)
    )
    mean, std = channel_statistics(training)
    stage = FlowStage(
        transformer,
        prompt,
        normalised(training, mean, std),
        normalised(source.validation(), mean, std),
        config.flow,
        config.seed,
    )
    return stage, {"latents_mean": mean, "latents_std": std}


def _raw_encoder(vae: AutoencoderKLWan) -> WanEncoder:
    """The encoder, without normalisation."""
    encoder = WanEncoder(vae)
    encoder.fold()
    encoder.latents_mean.zero_()
    encoder.latents_std.fill_(1.0)
    return encoder


def _write(
    output_dir: Path,
    work: Path,
    vae: AutoencoderKLWan,
    statistics: Mapping[str, list[float]],
    transformer: WanTransformer3DModel,
    prompt: torch.Tensor,
    card: Mapping[str, Any],
) -> None:
    vae_config = {k: v for k, v in vae.config.items() if not k.startswith("_")}
    plain = AutoencoderKLWan(**{**vae_config, **statistics})
    plain.load_state_dict(vae.state_dict())
    with in_one_step(output_dir) as partial:
        plain.save_pretrained(partial / "vae")
        transformer.save_pretrained(partial / "transformer")
        save_prompt(partial / PROMPT_FILE, prompt)
        for name in (SHEET, METRICS):
            shutil.copyfile(work / name, partial / name)
        (partial / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
