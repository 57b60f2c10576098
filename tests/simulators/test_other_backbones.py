"""Every other backbone equals a hook on the library's full model, loaded from a folder as from the Hub."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    AutoencoderKLWan,
    DDPMScheduler,
    UNet2DConditionModel,
    UNetSpatioTemporalConditionModel,
)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import (
    AutoModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    DINOv3ViTConfig,
    VJEPA2Config,
)

from vega_policy.simulators import SimulatorConfig, build_simulator
from vega_policy.simulators.loading import seeded_init

VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
VAE = {
    "block_out_channels": (16, 16, 16, 16),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
UNET = {
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "norm_num_groups": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
SVD_UNET = {
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 24,
    "num_attention_heads": (2, 4),
    "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
    "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
}
CLIP = CLIPVisionConfig(**VIT, intermediate_size=64, image_size=28, patch_size=14, projection_dim=32)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP_PIXELS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

Reference = Callable[[Path, Tensor, Tensor | None], Tensor]
"""Features of (batch, time, 3, side, side) clips by the library's own full models, given the noise."""


@dataclass
class Case:
    name: str
    image_size_px: int
    save: Callable[[Path], None]
    reference: Reference
    clip_length: int = 1
    grid: int = 4


def pixels_for(clips: Tensor, statistics: tuple[tuple[float, ...], ...]) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in statistics)
    return (clips - mean) / std


def as_grid(tokens: Tensor) -> Tensor:
    return tokens.unflatten(1, (math.isqrt(tokens.shape[1]),) * 2)


def save_stable_diffusion(folder: Path) -> None:
    UNet2DConditionModel(**UNET).save_pretrained(folder / "unet")
    AutoencoderKL(**VAE).save_pretrained(folder / "vae")
    save_file({"prompt_embedding": torch.randn(77, 32)}, folder / "empty_prompt.safetensors")


def mean_latents(cls: Any, folder: Path, frames: Tensor) -> Tensor:
    return cls.from_pretrained(folder / "vae").encode(frames * 2 - 1).latent_dist.mode()


def hooked(module: nn.Module, run: Callable[[], object]) -> Tensor:
    seen: list[Tensor] = []
    module.register_forward_hook(lambda module, args, output: seen.append(output))
    run()
    return seen[0]


def stable_diffusion(folder: Path, clips: Tensor, noise: Tensor | None) -> Tensor:
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    latents = mean_latents(AutoencoderKL, folder, clips[:, -1]) * 0.18215
    schedule = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    ratio = ((1 - schedule.alphas_cumprod) / schedule.alphas_cumprod).sqrt()
    step = (ratio - 0.3 / 0.7).abs().argmin()
    noisy = schedule.add_noise(latents, noise.expand_as(latents), step)
    prompt = load_file(folder / "empty_prompt.safetensors")["prompt_embedding"]
    middle = hooked(unet.mid_block, lambda: unet(noisy, step, prompt.expand(len(noisy), -1, -1)))
    return middle.permute(0, 2, 3, 1)


def save_svd(folder: Path) -> None:
    UNetSpatioTemporalConditionModel(**SVD_UNET).save_pretrained(folder / "unet")
    types = ("DownEncoderBlock2D",) * 4
    AutoencoderKLTemporalDecoder(
        down_block_types=types, block_out_channels=(32,) * 4, layers_per_block=1
    ).save_pretrained(folder / "vae")
    CLIPVisionModelWithProjection(CLIP).save_pretrained(folder / "image_encoder")


def svd(folder: Path, clips: Tensor, noise: Tensor | None) -> Tensor:
    unet = UNetSpatioTemporalConditionModel.from_pretrained(folder / "unet")
    clip = CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder")
    batch, frames = clips.shape[:2]
    latents = mean_latents(AutoencoderKLTemporalDecoder, folder, clips.flatten(0, 1))
    latents = latents.unflatten(0, (batch, frames))
    sigma = torch.tensor(3 / 7)
    noisy = (latents * 0.18215 + sigma * noise) / (sigma**2 + 1).sqrt()
    sample = torch.cat([noisy, latents[:, :1].expand_as(latents)], dim=2)
    small = F.interpolate(clips[:, 0], (28, 28), mode="bilinear", antialias=True, align_corners=False)
    picture = clip(pixels_for(small, CLIP_PIXELS)).image_embeds.unsqueeze(1)
    conditions = torch.tensor([[6.0, 127.0, 0.0]]).expand(batch, -1)
    middle = hooked(unet.mid_block, lambda: unet(sample, 0.25 * sigma.log(), picture, conditions))
    return middle.unflatten(0, (batch, frames))[:, -1].permute(0, 2, 3, 1)


def vae(folder: Path, clips: Tensor, noise: Tensor | None) -> Tensor:
    return mean_latents(AutoencoderKL, folder, clips[:, -1]).permute(0, 2, 3, 1)


def save_wan_vae(folder: Path) -> None:
    AutoencoderKLWan(base_dim=4, num_res_blocks=1).save_pretrained(folder / "vae")


def wan_vae(folder: Path, clips: Tensor, noise: Tensor | None) -> Tensor:
    model = AutoencoderKLWan.from_pretrained(folder / "vae")
    latents = model.encode(clips.transpose(1, 2) * 2 - 1).latent_dist.mode()[:, :, -1]
    mean, std = (torch.tensor(getattr(model.config, f"latents_{s}")).view(-1, 1, 1) for s in ("mean", "std"))
    return ((latents - mean) / std).permute(0, 2, 3, 1)


def dino_patches(num_extra: int) -> Reference:
    def reference(folder: Path, clips: Tensor, noise: Tensor | None) -> Tensor:
        hidden = AutoModel.from_pretrained(folder)(pixels_for(clips[:, -1], IMAGENET)).last_hidden_state
        return as_grid(hidden[:, num_extra:])

    return reference


def vjepa2(folder: Path, clips: Tensor, noise: Tensor | None) -> Tensor:
    padded = torch.cat([clips[:, :1], clips], dim=1)  # three frames do not fill two pairs
    model = AutoModel.from_pretrained(folder)
    hidden = model(pixels_for(padded, IMAGENET), skip_predictor=True).last_hidden_state
    return as_grid(hidden.unflatten(1, (2, -1))[:, -1])


def saves(config: Any) -> Callable[[Path], None]:
    return lambda folder: AutoModel.from_config(config).save_pretrained(folder)


DINO2 = Dinov2Config(**VIT, mlp_ratio=2, image_size=56, patch_size=14)
DINO2_REGISTERS = Dinov2WithRegistersConfig(**VIT, mlp_ratio=2, image_size=56, patch_size=14)
DINO3 = DINOv3ViTConfig(
    **VIT, intermediate_size=64, image_size=64, patch_size=16, num_register_tokens=4, layerscale_value=1.0
)
VJEPA2 = VJEPA2Config(
    **VIT,
    patch_size=16,
    crop_size=64,
    frames_per_clip=4,
    tubelet_size=2,
    mlp_ratio=2,
    pred_hidden_size=24,
    pred_num_attention_heads=4,
    pred_num_hidden_layers=2,
)
CASES = {
    "stable_diffusion": Case("stable_diffusion", 64, save_stable_diffusion, stable_diffusion),
    "svd": Case("svd", 64, save_svd, svd, clip_length=3),
    "vae": Case("vae", 64, save_stable_diffusion, vae, grid=8),
    "wan_vae": Case("vae", 64, save_wan_vae, wan_vae, clip_length=5, grid=8),
    "dinov2": Case("dino", 56, saves(DINO2), dino_patches(1)),
    "dinov2_registers": Case("dino", 56, saves(DINO2_REGISTERS), dino_patches(5)),
    "dinov3": Case("dino", 64, saves(DINO3), dino_patches(5)),
    "vjepa2": Case("vjepa2", 64, saves(VJEPA2), vjepa2, clip_length=3),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def folder(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp(case.name)
    with seeded_init(0):
        case.save(place)
    return place


@pytest.fixture(scope="module")
def config(case: Case, folder: Path) -> SimulatorConfig:
    return SimulatorConfig(
        case.name, source=str(folder), image_size_px=case.image_size_px, clip_length=case.clip_length
    )


def clips_for(case: Case, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    side = case.image_size_px
    return torch.rand(batch, case.clip_length, 3, side, side, generator=generator)


@torch.no_grad()
def test_features_equal_the_librarys_full_model(case: Case, folder: Path, config: SimulatorConfig) -> None:
    simulator, clips = build_simulator(config), clips_for(case)
    values = simulator(clips).values
    assert values.shape == (2, case.grid, case.grid, simulator.dim)
    noise = getattr(simulator.backbone, "noise", None)
    torch.testing.assert_close(values, case.reference(folder, clips, noise), rtol=1e-4, atol=1e-5)
    assert (values[0] - values[1]).abs().max() > 1e-3 * values.abs().max(), "the picture matters"


def test_equal_input_has_equal_output_in_every_batch(case: Case, config: SimulatorConfig) -> None:
    simulator, clips = build_simulator(config), clips_for(case, batch=3)
    together = simulator(clips).values
    assert torch.equal(simulator(clips).values, together)
    torch.testing.assert_close(simulator(clips[1:2]).values, together[1:2], rtol=1e-4, atol=1e-5)


def test_what_is_not_read_is_not_kept(config: SimulatorConfig) -> None:
    names = list(build_simulator(config).state_dict())
    assert names
    unread = ("decoder", "up_blocks", "post_quant", "predictor")
    assert not [name for name in names if any(part in name for part in unread)]


@torch.no_grad()
def test_bfloat16_weights_are_loaded_as_such(case: Case, config: SimulatorConfig) -> None:
    clips = clips_for(case)
    exact = build_simulator(config)(clips).values
    half = build_simulator(replace(config, dtype="bfloat16", vae_dtype="bfloat16"))
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert (half(clips).values.float() - exact).norm() / exact.norm() < 0.05


def test_the_same_class_builds_from_an_architecture_alone(
    case: Case, folder: Path, config: SimulatorConfig
) -> None:
    """What a folder's configuration files say may be given in the simulator's configuration instead."""
    files = {"model": folder} if (folder / "config.json").is_file() else {p.name: p for p in folder.iterdir()}
    architecture = {
        part: json.loads((place / "config.json").read_text())
        for part, place in files.items()
        if (place / "config.json").is_file()
    }
    simulator = build_simulator(
        SimulatorConfig(
            case.name,
            architecture=architecture,
            image_size_px=case.image_size_px,
            clip_length=case.clip_length,
        )
    )
    loaded = build_simulator(config)
    shapes = {name: value.shape for name, value in loaded.state_dict().items()}
    assert {name: value.shape for name, value in simulator.state_dict().items()} == shapes
    assert simulator(clips_for(case)).values.shape == loaded(clips_for(case)).values.shape


def test_weights_of_another_family_are_refused(tmp_path: Path) -> None:
    saves(VJEPA2)(tmp_path)
    with pytest.raises(ValueError, match="got 'vjepa2' for 'dino'"):
        build_simulator(SimulatorConfig("dino", source=str(tmp_path), image_size_px=64))


def test_vjepa_of_another_picture_size_is_refused(tmp_path: Path) -> None:
    saves(VJEPA2)(tmp_path)
    with pytest.raises(ValueError, match=r"expected simulator\.image_size_px=64"):
        build_simulator(SimulatorConfig("vjepa2", source=str(tmp_path), image_size_px=128))


@pytest.mark.parametrize("name", ["stable_diffusion", "vae"])
def test_full_noise_leaves_nothing_of_the_signal(name: str, tmp_path: Path) -> None:
    CASES[name].save(tmp_path)
    simulator = build_simulator(
        SimulatorConfig(name, source=str(tmp_path), control="noise", image_size_px=64)
    )
    features = simulator(clips_for(CASES[name])[:, :1]).values
    torch.testing.assert_close(features[0], features[1], rtol=1e-5, atol=1e-6)
