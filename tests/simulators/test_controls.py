"""The controls take away what they say and nothing else."""

import dataclasses
from pathlib import Path

import pytest
import torch

from vega_policy.simulators import SimulatorConfig, build_simulator, tiny_wan_config
from vega_policy.simulators.base import Simulator


@pytest.fixture
def clips(generator: torch.Generator) -> torch.Tensor:
    return torch.rand(3, 1, 3, 64, 64, generator=generator)


def test_zeros_have_the_shape_of_the_real_features_and_no_weights(
    wan: Simulator, wan_config: SimulatorConfig, clips: torch.Tensor
) -> None:
    zeros = build_simulator(dataclasses.replace(wan_config, control="zeros"))
    assert zeros.dim == wan.dim
    assert zeros(clips).values.shape == wan(clips).values.shape
    assert not zeros(clips).values.any()
    assert not list(zeros.parameters())


def test_zeros_of_a_known_hub_model_need_nothing_from_the_hub() -> None:
    config = SimulatorConfig(source="Wan-AI/Wan2.1-T2V-1.3B-Diffusers", control="zeros")
    assert build_simulator(config)(torch.rand(1, 1, 3, 256, 256)).values.shape == (1, 16, 16, 1536)


def test_pure_noise_carries_nothing_of_the_picture(clips: torch.Tensor) -> None:
    noise = build_simulator(tiny_wan_config(image_size_px=64, control="noise"))
    assert noise.backbone.level.t == 1.0
    assert noise.backbone.level.timestep == 1000.0
    features = noise(clips).values
    torch.testing.assert_close(features, features[:1].expand_as(features))
    assert features.std() > 0.01
    snapped = tiny_wan_config(image_size_px=64, control="noise", timestep_snapping="reference")
    assert build_simulator(snapped).backbone.level.t == 1.0


def test_pure_noise_is_refused_where_there_is_none() -> None:
    with pytest.raises(ValueError, match="takes no noise: use zeros, random_init or shuffled"):
        SimulatorConfig(name="dino", control="noise")
    with pytest.raises(ValueError, match="another simulator than svd for control=noise"):
        SimulatorConfig(name="svd", control="noise")
    with pytest.raises(ValueError, match="graphs are for wan"):
        SimulatorConfig(name="dino", cuda_graph=True)
    with pytest.raises(ValueError, match="noise_level=null for 'vjepa2'"):
        SimulatorConfig(name="vjepa2", noise_level=300)


def test_random_init_has_the_architecture_but_not_the_weights(
    wan: Simulator, wan_config: SimulatorConfig, clips: torch.Tensor
) -> None:
    config = dataclasses.replace(wan_config, control="random_init", init_seed=3)
    untrained, again = build_simulator(config), build_simulator(config)
    shapes = {name: value.shape for name, value in wan.state_dict().items()}
    assert {name: value.shape for name, value in untrained.state_dict().items()} == shapes
    assert torch.equal(untrained(clips).values, again(clips).values)
    assert not torch.allclose(untrained(clips).values, wan(clips).values, atol=1e-2)


def test_building_random_weights_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    build_simulator(tiny_wan_config(init_seed=9))
    assert torch.equal(torch.get_rng_state(), before)


def test_shuffled_gives_every_picture_the_features_of_another(
    wan: Simulator, wan_config: SimulatorConfig, clips: torch.Tensor
) -> None:
    config = dataclasses.replace(wan_config, control="shuffled", clip_length=1)
    shuffled = build_simulator(config)
    given = shuffled(clips).values
    byte_clips = (clips * 255).round() / 255
    real = build_simulator(dataclasses.replace(config, control="none"))(byte_clips).values
    for i, features in enumerate(given):
        matches = [torch.allclose(features, other, atol=1e-4) for other in real]
        assert sum(matches) == 1
        assert not matches[i]


def test_shuffled_answers_alike_in_every_batch_once_its_bank_is_full(
    generator: torch.Generator, wan_config: SimulatorConfig
) -> None:
    config = dataclasses.replace(wan_config, control="shuffled", clip_length=1)
    shuffled = build_simulator(config)
    shuffled(torch.rand(20, 1, 3, 64, 64, generator=generator))
    clips = torch.rand(4, 1, 3, 64, 64, generator=generator)
    together = shuffled(clips).values
    for i in range(4):
        torch.testing.assert_close(shuffled(clips[i : i + 1]).values[0], together[i], rtol=1e-5, atol=1e-5)
    reloaded = build_simulator(config)
    reloaded.load_state_dict(shuffled.state_dict(), strict=True)
    assert torch.equal(reloaded(clips).values, together)


def test_shuffled_with_one_picture_alone_says_what_to_do(clips: torch.Tensor) -> None:
    shuffled = build_simulator(tiny_wan_config(image_size_px=64, control="shuffled"))
    with pytest.raises(RuntimeError, match="at least 2 banked clips"):
        shuffled(clips[:1])
    with pytest.raises(RuntimeError, match="got 1: show it two different clips"):
        shuffled(clips[:1].expand(3, -1, -1, -1, -1))


def test_unknown_names_give_the_nearest(wan_folder: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'shuffled'"):
        SimulatorConfig(control="shuffle")
    with pytest.raises(ValueError, match="did you mean 'vjepa2'"):
        SimulatorConfig(name="v_jepa2")
    with pytest.raises(ValueError, match="either source or architecture"):
        tiny_wan_config(source=str(wan_folder))
    with pytest.raises(ValueError, match=r"1 \+ 4n"):
        SimulatorConfig(clip_length=4)
    with pytest.raises(ValueError, match=r"0\.\.1000"):
        SimulatorConfig(noise_level=1001)
