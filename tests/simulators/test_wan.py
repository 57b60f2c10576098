"""Wan's features are exactly those of the full model, at a fraction of the work, and the same every time."""

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from vega_policy.simulators import SimulatorConfig, build_simulator, tiny_wan_config
from vega_policy.simulators.base import Simulator
from vega_policy.simulators.wan import WanBackbone

KERNEL_TOLERANCE = 1e-5
"""Relative; what another order of summation may change in float32."""


def relative(difference_of: torch.Tensor, to: torch.Tensor) -> float:
    return float((difference_of - to).abs().max() / to.abs().max())


def full_model_features(folder: Path, wan: Simulator, clips: torch.Tensor, block: int) -> torch.Tensor:
    """The library's own models end to end, with a hook on one block: all tokens of all frames."""
    vae = AutoencoderKLWan.from_pretrained(folder / "vae")
    transformer = WanTransformer3DModel.from_pretrained(folder / "transformer")
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
    std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    latents = (vae.encode(clips.transpose(1, 2) * 2 - 1).latent_dist.mode() - mean) / std
    noisy = 0.7 * latents + 0.3 * wan.backbone.noise[:, :, : latents.shape[2]]
    valid = load_file(folder / "empty_prompt.safetensors")["prompt_embedding"]
    prompt = torch.cat([valid, torch.zeros(512 - len(valid), valid.shape[1])])
    seen = []
    transformer.blocks[block].register_forward_hook(lambda module, args, output: seen.append(output))
    transformer(noisy, torch.full((len(clips),), 300.0), prompt.expand(len(clips), -1, -1))
    return seen[0]


@pytest.mark.parametrize("frames", [1, 5, 9])
@torch.no_grad()
def test_the_truncated_model_gives_what_a_hook_on_the_full_model_sees(
    wan: Simulator, wan_folder: Path, frames: int, generator: torch.Generator
) -> None:
    clips = torch.rand(2, frames, 3, 64, 64, generator=generator)
    expected = full_model_features(wan_folder, wan, clips, block=3)
    hidden, grid = wan.backbone.hidden_states(wan.backbone.encoder(clips))
    assert grid == (1 + (frames - 1) // 4, 4, 4)
    assert relative(hidden, expected) < KERNEL_TOLERANCE
    newest = expected.unflatten(1, grid)[:, -1]
    assert relative(wan(clips).values, newest) < KERNEL_TOLERANCE


@torch.no_grad()
def test_the_block_counts_from_zero(
    wan_config: SimulatorConfig, wan_folder: Path, generator: torch.Generator
) -> None:
    clips = torch.rand(1, 1, 3, 64, 64, generator=generator)
    for block in (0, 5):
        simulator = build_simulator(dataclasses.replace(wan_config, block=block))
        assert len(simulator.backbone.transformer.blocks) == block + 1
        expected = full_model_features(wan_folder, simulator, clips, block)
        assert relative(simulator(clips).values.flatten(1, 2), expected) < KERNEL_TOLERANCE


def test_later_blocks_head_and_decoder_are_not_in_memory(wan: Simulator, wan_folder: Path) -> None:
    stored = set(load_file(wan_folder / "transformer" / "diffusion_pytorch_model.safetensors"))
    kept = {name.removeprefix("transformer.") for name in wan.backbone.state_dict()}
    gone = {name for name in stored - kept if not name.startswith(("blocks.4.", "blocks.5."))}
    assert gone == {"proj_out.weight", "proj_out.bias", "scale_shift_table"}
    assert not [name for name in kept if "decoder" in name or "post_quant" in name]


def test_what_depends_on_prompt_and_noise_level_alone_is_not_computed_again(wan: Simulator) -> None:
    transformer = wan.backbone.transformer
    constant = [transformer.condition_embedder, *transformer.condition_embedder.children()]
    for block in transformer.blocks:
        constant += [block.attn2.to_k, block.attn2.to_v, block.attn2.norm_k]
    calls: list[torch.nn.Module] = []
    handles = [m.register_forward_hook(lambda module, *_: calls.append(module)) for m in constant]
    try:
        wan(torch.rand(1, 1, 3, 64, 64))
        assert not calls
        wan.prepare()
        assert set(constant) - {transformer.condition_embedder.timesteps_proj} <= set(calls)
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def test_a_lone_frame_is_encoded_in_two_dimensions_with_the_same_result(
    wan: Simulator, wan_folder: Path, generator: torch.Generator
) -> None:
    frame = torch.rand(2, 1, 3, 64, 64, generator=generator)
    vae = AutoencoderKLWan.from_pretrained(wan_folder / "vae")
    with FlopCounterMode(display=False) as unfolded:
        mean = vae.encode(frame.transpose(1, 2) * 2 - 1).latent_dist.mode()
    with FlopCounterMode(display=False) as folded:
        latents = wan.backbone.encoder(frame)
    encoder = wan.backbone.encoder
    expected = (mean - encoder.latents_mean) / encoder.latents_std
    assert relative(latents, expected) < 1e-5
    assert folded.get_total_flops() < 0.4 * unfolded.get_total_flops()


@torch.no_grad()
def test_latents_of_a_clip_are_those_of_the_library(
    wan: Simulator, wan_folder: Path, generator: torch.Generator
) -> None:
    clips = torch.rand(1, 9, 3, 64, 64, generator=generator)
    vae = AutoencoderKLWan.from_pretrained(wan_folder / "vae")
    encoder = wan.backbone.encoder
    mean = vae.encode(clips.transpose(1, 2) * 2 - 1).latent_dist.mode()
    expected = (mean - encoder.latents_mean) / encoder.latents_std
    latents = encoder(clips)
    assert latents.shape == (1, 16, 3, 8, 8)
    assert relative(latents, expected) < KERNEL_TOLERANCE
    assert relative(encoder(clips[:, :1]), latents[:, :, :1]) < KERNEL_TOLERANCE


def test_features_depend_on_the_picture_and_on_nothing_else(
    wan: Simulator, generator: torch.Generator
) -> None:
    clips = torch.rand(4, 1, 3, 64, 64, generator=generator)
    first = wan(clips).values
    torch.manual_seed(123)
    assert torch.equal(wan(clips).values, first)
    assert relative(wan(clips[2:3]).values, first[2:3]) < KERNEL_TOLERANCE
    assert relative(wan(clips.flip(0)).values.flip(0), first) < KERNEL_TOLERANCE
    assert relative(first[:1], first[1:2]) > 1e-3


def test_history_changes_the_newest_tokens_and_later_frames_are_not_needed(
    wan: Simulator, generator: torch.Generator
) -> None:
    clips = torch.rand(1, 5, 3, 64, 64, generator=generator)
    other = clips.clone()
    other[:, 0] = torch.rand(1, 3, 64, 64, generator=generator)
    assert relative(wan(other).values, wan(clips).values) > 1e-4


def test_a_trainer_can_neither_train_nor_cast_it(
    wan_config: SimulatorConfig, generator: torch.Generator
) -> None:
    simulator = build_simulator(wan_config)
    clips = torch.rand(1, 1, 3, 64, 64, generator=generator)
    before = simulator(clips).values
    policy = torch.nn.ModuleDict({"simulator": simulator, "head": torch.nn.Linear(2, 2)})
    policy.train().to(torch.bfloat16)
    assert policy["head"].weight.dtype == torch.bfloat16
    assert not any(module.training for module in simulator.modules())
    assert not any(p.requires_grad for p in simulator.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(simulator(clips).values, before)


def test_loading_a_state_dict_renews_the_derived_constants(
    wan: Simulator, wan_config: SimulatorConfig, generator: torch.Generator
) -> None:
    clips = torch.rand(1, 1, 3, 64, 64, generator=generator)
    untrained = build_simulator(dataclasses.replace(wan_config, control="random_init", init_seed=5))
    assert relative(untrained(clips).values, wan(clips).values) > 1e-2
    owner = torch.nn.ModuleDict({"simulator": untrained})
    owner.load_state_dict(torch.nn.ModuleDict({"simulator": wan}).state_dict(), strict=True)
    assert torch.equal(untrained(clips).values, wan(clips).values)


def test_a_copy_stands_on_its_own(wan: Simulator, generator: torch.Generator) -> None:
    clips = torch.rand(1, 1, 3, 64, 64, generator=generator)
    before = wan(clips).values
    twin = copy.deepcopy(wan)
    assert torch.equal(twin(clips).values, before)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.5)
    twin.prepare()
    assert not torch.equal(twin(clips).values, before)
    assert torch.equal(wan(clips).values, before)


def test_bfloat16_is_close_to_float32(
    wan: Simulator, wan_config: SimulatorConfig, generator: torch.Generator
) -> None:
    half = build_simulator(dataclasses.replace(wan_config, dtype="bfloat16", vae_dtype="bfloat16"))
    clips = torch.rand(2, 5, 3, 64, 64, generator=generator)
    exact, rounded = wan(clips).values, half(clips).values
    assert rounded.dtype == torch.bfloat16
    assert half.backbone.transformer.blocks[0].scale_shift_table.dtype == torch.float32
    assert (rounded.float() - exact).norm() / exact.norm() < 0.03


def test_clips_that_would_lose_frames_are_refused(wan: Simulator) -> None:
    with pytest.raises(ValueError, match=r"1 \+ 4n frames, oldest first, got 4"):
        wan(torch.rand(1, 4, 3, 64, 64))
    with pytest.raises(ValueError, match="at most 9 frames, got 13"):
        wan(torch.rand(1, 13, 3, 64, 64))
    with pytest.raises(TypeError, match="divide uint8 by 255"):
        wan(torch.zeros(1, 1, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(ValueError, match="batch, time, 3, height, width"):
        wan(torch.rand(1, 3, 64, 64))
    with pytest.raises(ValueError, match="multiple of 32"):
        build_simulator(tiny_wan_config(image_size_px=72))
    with pytest.raises(ValueError, match=r"block in 0\.\.3 for 4 blocks, got 4"):
        build_simulator(tiny_wan_config(block=4))


def test_the_tiny_simulator_is_tiny() -> None:
    simulator = build_simulator(tiny_wan_config())
    assert isinstance(simulator.backbone, WanBackbone)
    assert sum(p.numel() for p in simulator.parameters()) < 4e6
    assert simulator(torch.rand(2, 1, 3, 128, 128)).values.shape == (2, 4, 4, simulator.dim)
