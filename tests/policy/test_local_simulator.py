"""A simulator from a folder travels in the policy's checkpoint, which loads where the folder is not."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from lerobot.configs.policies import PreTrainedConfig
from safetensors.torch import save_file

from vega_policy.modeling_vega import VegaPolicy
from vega_policy.simulators import SimulatorConfig, tiny_wan_config
from vega_policy.simulators.loading import seeded_init

MakeBatch = Callable[..., dict[str, Any]]
MEAN, STD = [0.1 * i for i in range(16)], [1.0 + 0.1 * i for i in range(16)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    architecture = tiny_wan_config().architecture
    folder = tmp_path / "simulator"
    with seeded_init(5):
        vae = AutoencoderKLWan(**architecture["vae"], latents_mean=MEAN, latents_std=STD)
        transformer = WanTransformer3DModel(**architecture["transformer"] | {"num_layers": 3})
        prompt = torch.randn(1, 64)
    vae.save_pretrained(folder / "vae")
    transformer.save_pretrained(folder / "transformer")
    save_file({"prompt_embedding": prompt}, folder / "empty_prompt.safetensors")
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_checkpoint_holds_its_simulator_whole(
    source: Path, make_policy: Callable[..., VegaPolicy], make_batch: MakeBatch, tmp_path: Path, dtype: str
) -> None:
    simulator = SimulatorConfig(source=str(source), block=1, image_size_px=64, dtype=dtype)
    policy = make_policy(simulator=simulator)
    clips = policy.cameras.clips(make_batch())
    features = policy.simulate(clips)
    shutil.move(source, tmp_path / "gone")  # between building and saving, as on another day
    policy.save_pretrained(tmp_path / "checkpoint")

    loaded = VegaPolicy.from_pretrained(tmp_path / "checkpoint")
    assert torch.equal(loaded.simulate(clips), features)
    stored = loaded.config.simulator
    assert stored.source is None
    assert (stored.architecture["vae"]["latents_mean"], stored.architecture["vae"]["latents_std"]) == (
        MEAN,
        STD,
    )
    assert stored == policy.simulator.portable_config

    loaded.save_pretrained(tmp_path / "again")
    config = PreTrainedConfig.from_pretrained(tmp_path / "again")
    resumed = VegaPolicy.from_pretrained(tmp_path / "again", config=replace(config, simulator=simulator))
    assert torch.equal(resumed.simulate(clips), features)
