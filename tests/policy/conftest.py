"""A VEGA policy small enough for a unit test: the real classes, random weights, 32 px images."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from vega_policy.backbones.config import BackboneConfig
from vega_policy.configuration_vega import VegaConfig, libero_features
from vega_policy.heads.config import HeadConfig
from vega_policy.modeling_vega import VegaPolicy
from vega_policy.simulators.config import tiny_wan_config

IMAGE_PX = 64
TASKS = ["put the bowl on the plate", "open the drawer"]
WORDS = sorted({word for task in TASKS for word in task.split()})


def make_config(**changes: Any) -> VegaConfig:
    """The configuration of the test policy; keyword arguments replace its fields."""
    inputs, outputs = libero_features(IMAGE_PX)
    backbone = BackboneConfig(words=WORDS)
    changes = {"backbone": backbone} | changes
    return VegaConfig(device="cpu", input_features=inputs, output_features=outputs, **changes)


def small_parts() -> dict[str, Any]:
    """A cheap simulator and head for `make_config`."""
    simulator = tiny_wan_config(image_size_px=IMAGE_PX, block=1)
    simulator.architecture["transformer"]["num_layers"] = 2
    return {"simulator": simulator, "head": HeadConfig(width=32, slots="per_step")}


@pytest.fixture
def config() -> VegaConfig:
    return make_config(**small_parts())


@pytest.fixture(scope="session")
def make_policy() -> Callable[..., VegaPolicy]:
    """Builds a test policy; keyword arguments replace fields of its configuration."""
    return lambda **changes: VegaPolicy(make_config(**small_parts() | changes)).eval()


@pytest.fixture(scope="session")
def policy(make_policy: Callable[..., VegaPolicy]) -> VegaPolicy:
    """A shared policy that tests reset but do not train."""
    return make_policy()


@pytest.fixture
def make_batch() -> Callable[..., dict[str, Any]]:
    def batch(size: int = 2, seed: int = 0, time: int | None = None) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        frames = () if time is None else (time,)
        pictures = (size, *frames, 3, IMAGE_PX, IMAGE_PX)
        return {
            "observation.images.image": torch.rand(pictures, generator=generator),
            "observation.images.image2": torch.rand(pictures, generator=generator),
            "observation.state": torch.rand(size, *frames, 8, generator=generator) * 2 - 1,
            "action": torch.rand(size, 8, 7, generator=generator) * 2 - 1,
            "action_is_pad": torch.zeros(size, 8, dtype=torch.bool),
            "task": [TASKS[i % len(TASKS)] for i in range(size)],
        }

    return batch
