"""A tiny Wan in diffusers' folder layout, saved once, and the simulators built from it."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import save_file

from vega_policy.simulators import SimulatorConfig, build_simulator, tiny_wan_config
from vega_policy.simulators.base import Simulator
from vega_policy.simulators.loading import seeded_init


@pytest.fixture(scope="session")
def wan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wan")
    architecture = tiny_wan_config().architecture
    architecture["transformer"] |= {"patch_size": [1, 2, 2], "num_layers": 6}  # Wan's patches
    with seeded_init(1):
        WanTransformer3DModel(**architecture["transformer"]).save_pretrained(folder / "transformer")
        AutoencoderKLWan(**architecture["vae"]).save_pretrained(folder / "vae")
        prompt = torch.randn(1, architecture["transformer"]["text_dim"])
    save_file({"prompt_embedding": prompt}, folder / "empty_prompt.safetensors")
    return folder


@pytest.fixture(scope="session")
def wan_config(wan_folder: Path) -> SimulatorConfig:
    return SimulatorConfig(name="wan", source=str(wan_folder), block=3, image_size_px=64, clip_length=9)


@pytest.fixture(scope="session")
def wan(wan_config: SimulatorConfig) -> Simulator:
    return build_simulator(wan_config)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)
