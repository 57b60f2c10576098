"""Every YAML of configs/policy builds: the large ones on the meta device, where shapes cost no memory."""

from pathlib import Path

import pytest
import torch

from vega_policy.cli.policies import load_policy_config
from vega_policy.configuration_vega import VegaConfig, libero_features
from vega_policy.envs.libero.tasks import SUITES, suite_tasks
from vega_policy.modeling_vega import VegaPolicy
from vega_policy.vocabulary import LIBERO_WORDS

PRESETS = sorted((Path(__file__).resolve().parents[2] / "configs" / "policy").glob("*.yaml"))


def build(preset: Path) -> VegaPolicy:
    config = load_policy_config(str(preset), device="cpu")
    config.input_features, config.output_features = libero_features()
    with torch.device("meta"):
        return VegaPolicy(config, load_weights=False)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_builds_and_its_streams_fit(preset: Path) -> None:
    policy = build(preset)
    rows, cols = policy.backbone.grid
    cells = policy.simulator.image_size_px // policy.simulator.backbone.token_px
    assert cells % rows == 0, "the simulator's grid is pooled exactly, or is the LLM's own"
    assert rows == cols
    assert policy.head.num_slots % policy.config.chunk_size == 0
    assert {parameter.device.type for parameter in policy.parameters()} == {"meta"}
    assert {parameter.dtype for parameter in policy.get_optim_params()} == {torch.float32}


def test_the_tiny_policy_is_what_vega_means_by_default() -> None:
    tiny = next(path for path in PRESETS if path.stem == "vega_tiny")
    assert load_policy_config(str(tiny), device="cpu") == VegaConfig(device="cpu")


@pytest.mark.sim
def test_the_vocabulary_is_that_of_libero() -> None:
    words = {word for suite in SUITES for task in suite_tasks(suite) for word in task.language.split()}
    assert words == set(LIBERO_WORDS)


def test_the_tiny_policy_is_tiny() -> None:
    policy = build(next(path for path in PRESETS if path.stem == "vega_tiny"))
    assert sum(parameter.numel() for parameter in policy.parameters()) <= 10_000_000
