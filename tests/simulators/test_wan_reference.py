"""The features against Wan's equations written out in plain torch, in the layout of the authors' release.

The reference below follows the Wan report (arXiv 2503.20314) and DiT (arXiv 2212.09748), with the names of
the official checkpoint: full-text cross-attention over 512 unmasked tokens, every step at every call.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from vega_policy.simulators import SimulatorConfig, build_simulator
from vega_policy.simulators.loading import MissingWeightsError
from vega_policy.simulators.noise import reference_level

DIM, HEADS, FFN, FREQ, TEXT, BLOCKS = 48, 2, 96, 32, 4096, 4
WIDTH = DIM // HEADS
Weights = dict[str, Tensor]


def transformer_weights(generator: torch.Generator) -> Weights:
    """Random weights under the official names."""
    weights: Weights = {}

    def linear(name: str, fan_in: int, fan_out: int) -> None:
        weights[f"{name}.weight"] = torch.randn(fan_out, fan_in, generator=generator) / math.sqrt(fan_in)
        weights[f"{name}.bias"] = 0.1 * torch.randn(fan_out, generator=generator)

    weights["patch_embedding.weight"] = torch.randn(DIM, 16, 1, 2, 2, generator=generator) / 8
    weights["patch_embedding.bias"] = 0.1 * torch.randn(DIM, generator=generator)
    linear("text_embedding.0", TEXT, DIM)
    linear("text_embedding.2", DIM, DIM)
    linear("time_embedding.0", FREQ, DIM)
    linear("time_embedding.2", DIM, DIM)
    linear("time_projection.1", DIM, 6 * DIM)
    for i in range(BLOCKS):
        for attention in ("self_attn", "cross_attn"):
            for projection in "qkvo":
                linear(f"blocks.{i}.{attention}.{projection}", DIM, DIM)
            for norm in ("norm_q", "norm_k"):
                weights[f"blocks.{i}.{attention}.{norm}.weight"] = 1 + 0.1 * torch.randn(
                    DIM, generator=generator
                )
        weights[f"blocks.{i}.norm3.weight"] = 1 + 0.1 * torch.randn(DIM, generator=generator)
        weights[f"blocks.{i}.norm3.bias"] = 0.1 * torch.randn(DIM, generator=generator)
        linear(f"blocks.{i}.ffn.0", DIM, FFN)
        linear(f"blocks.{i}.ffn.2", FFN, DIM)
        weights[f"blocks.{i}.modulation"] = torch.randn(1, 6, DIM, generator=generator) / math.sqrt(DIM)
    linear("head.head", DIM, 64)
    weights["head.modulation"] = torch.randn(1, 2, DIM, generator=generator)
    return weights


class ReferenceWan:
    """One forward pass of Wan's transformer up to a block, nothing cached."""

    def __init__(self, weights: Weights) -> None:
        self.w = weights

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def features(self, latents: Tensor, timestep: float, prompt: Tensor, block: int) -> Tensor:
        patches = F.conv3d(
            latents, self.w["patch_embedding.weight"], self.w["patch_embedding.bias"], stride=(1, 2, 2)
        )
        angles = self.angles(*patches.shape[2:])
        x = patches.flatten(2).transpose(1, 2)
        padded = torch.cat([prompt, torch.zeros(512 - len(prompt), TEXT)])
        text = self.linear(
            "text_embedding.2", F.gelu(self.linear("text_embedding.0", padded), approximate="tanh")
        )
        time = self.linear(
            "time_embedding.2", F.silu(self.linear("time_embedding.0", self.sinusoid(timestep)))
        )
        modulation = self.linear("time_projection.1", F.silu(time)).view(1, 6, DIM)
        for i in range(block + 1):
            x = self.block(f"blocks.{i}", x, text.expand(len(x), -1, -1), modulation, angles)
        return x

    def block(self, name: str, x: Tensor, text: Tensor, modulation: Tensor, angles: Tensor) -> Tensor:
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (
            self.w[f"{name}.modulation"] + modulation
        ).unbind(1)
        y = self.layer_norm(x) * (1 + scale) + shift
        x = x + gate * self.attention(f"{name}.self_attn", y, y, angles)
        y = self.layer_norm(x) * self.w[f"{name}.norm3.weight"] + self.w[f"{name}.norm3.bias"]
        x = x + self.attention(f"{name}.cross_attn", y, text, None)
        y = self.layer_norm(x) * (1 + ffn_scale) + ffn_shift
        y = self.linear(f"{name}.ffn.2", F.gelu(self.linear(f"{name}.ffn.0", y), approximate="tanh"))
        return x + ffn_gate * y

    def attention(self, name: str, x: Tensor, memory: Tensor, angles: Tensor | None) -> Tensor:
        def heads(tokens: Tensor) -> Tensor:
            return tokens.unflatten(-1, (HEADS, WIDTH)).transpose(1, 2)

        q = heads(self.rms_norm(f"{name}.norm_q", self.linear(f"{name}.q", x)))
        k = heads(self.rms_norm(f"{name}.norm_k", self.linear(f"{name}.k", memory)))
        v = heads(self.linear(f"{name}.v", memory))
        if angles is not None:
            q, k = self.rotate(q, angles), self.rotate(k, angles)
        weights = (q @ k.transpose(-1, -2) / math.sqrt(WIDTH)).softmax(dim=-1)
        return self.linear(f"{name}.o", (weights @ v).transpose(1, 2).flatten(2))

    def rms_norm(self, name: str, x: Tensor) -> Tensor:
        return x / (x.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt() * self.w[f"{name}.weight"]

    @staticmethod
    def layer_norm(x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=-1, keepdim=True, correction=0)
        return (x - mean) / (variance + 1e-6).sqrt()

    @staticmethod
    def sinusoid(timestep: float) -> Tensor:
        frequency = 10000.0 ** (-torch.arange(FREQ // 2, dtype=torch.float64) / (FREQ // 2))
        return torch.cat([(timestep * frequency).cos(), (timestep * frequency).sin()]).float()

    @staticmethod
    def angles(frames: int, rows: int, cols: int) -> Tensor:
        """One angle per pair of channels: some pairs turn with time, some with rows, some with columns."""
        spatial = WIDTH // 6
        grid = torch.meshgrid(*(torch.arange(float(n)) for n in (frames, rows, cols)), indexing="ij")
        parts = []
        for place, pairs in zip(grid, (WIDTH // 2 - 2 * spatial, spatial, spatial), strict=True):
            frequency = 10000.0 ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
            parts.append(place.flatten()[:, None] * frequency)
        return torch.cat(parts, dim=-1)

    @staticmethod
    def rotate(x: Tensor, angles: Tensor) -> Tensor:
        turned = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
        turned = turned * torch.polar(torch.ones_like(angles), angles)
        return torch.view_as_real(turned).flatten(-2).float()


@pytest.fixture(scope="module")
def weights() -> Weights:
    return transformer_weights(torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def original_folder(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authors' folder layout, but for the autoencoder, which is the real size and comes on demand."""
    folder = tmp_path_factory.mktemp("original")
    settings = {
        "_class_name": "WanModel",
        "dim": DIM,
        "eps": 1e-6,
        "ffn_dim": FFN,
        "freq_dim": FREQ,
        "in_dim": 16,
        "out_dim": 16,
        "num_heads": HEADS,
        "num_layers": BLOCKS,
        "text_len": 512,
    }
    (folder / "config.json").write_text(json.dumps(settings))
    save_file(weights, folder / "diffusion_pytorch_model.safetensors")
    torch.save(
        torch.randn(1, TEXT, generator=torch.Generator().manual_seed(3)), folder / "wan_prompt_embedding.pt"
    )
    return folder


def original_vae_weights() -> Weights:
    """Random autoencoder weights under the official names, full size: the layout has no smaller one."""
    from diffusers import AutoencoderKLWan

    names = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6"}
    weights = {}
    for name, value in AutoencoderKLWan().state_dict().items():
        if not name.startswith(("encoder.", "quant_conv.")):
            continue
        for ours, theirs in {
            "encoder.conv_in": "encoder.conv1",
            "encoder.down_blocks": "encoder.downsamples",
            "encoder.mid_block.resnets.0": "encoder.middle.0",
            "encoder.mid_block.attentions.0": "encoder.middle.1",
            "encoder.mid_block.resnets.1": "encoder.middle.2",
            "encoder.norm_out": "encoder.head.0",
            "encoder.conv_out": "encoder.head.2",
            "conv_shortcut": "shortcut",
            "quant_conv": "conv1",
            **(names if "down_blocks" in name or "resnets" in name else {}),
        }.items():
            name = name.replace(ours, theirs)
        weights[name] = value
    return weights


@pytest.fixture(scope="module")
def full_folder(original_folder: Path) -> Iterator[Path]:
    archive = original_folder / "Wan2.1_VAE.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(original_vae_weights(), archive)
    yield original_folder
    archive.unlink()  # 200 MB


@torch.no_grad()
@pytest.mark.parametrize("snapping", ["exact", "reference"])
@pytest.mark.parametrize("frames", [1, 2])
def test_block_features_follow_the_published_equations(
    full_folder: Path, weights: Weights, snapping: str, frames: int
) -> None:
    config = SimulatorConfig(
        source=str(full_folder),
        prompt_path=str(full_folder / "wan_prompt_embedding.pt"),
        block=2,
        image_size_px=48,
        clip_length=5,
        timestep_snapping=snapping,
    )
    wan = build_simulator(config).backbone
    generator = torch.Generator().manual_seed(11)
    latents = torch.randn(2, 16, frames, 6, 6, generator=generator)
    wan.noise.copy_(torch.randn(wan.noise.shape, generator=generator))  # the authors' noise would go here
    t, timestep = (0.3, 300.0) if snapping == "exact" else (0.2999238, 299.0)
    noisy = (1 - t) * latents + t * wan.noise[:, :, :frames]
    prompt = torch.load(full_folder / "wan_prompt_embedding.pt", weights_only=True)
    expected = ReferenceWan(weights).features(noisy, timestep, prompt, block=2)
    hidden, _ = wan.hidden_states(latents)
    torch.testing.assert_close(hidden, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_time_input_and_padding_matter_so_the_reference_is_a_real_test(weights: Weights) -> None:
    reference = ReferenceWan(weights)
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 16, 1, 6, 6, generator=generator)
    prompt = torch.randn(1, TEXT, generator=generator)
    base = reference.features(latents, 300.0, prompt, 2)
    assert (reference.features(latents, 299.0, prompt, 2) - base).abs().max() > 1e-2
    unpadded = reference.features(latents, 300.0, prompt.expand(512, -1), 2)
    assert (unpadded - base).abs().max() > 1e-1


@torch.no_grad()
def test_the_original_autoencoder_has_the_librarys_latents(full_folder: Path) -> None:
    from diffusers import AutoencoderKLWan

    config = SimulatorConfig(
        source=str(full_folder),
        prompt_path=str(full_folder / "wan_prompt_embedding.pt"),
        block=0,
        image_size_px=32,
    )
    simulator = build_simulator(config)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderKLWan().eval()
    frame = torch.rand(1, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mean = vae.encode(frame.transpose(1, 2) * 2 - 1).latent_dist.mode()
    encoder = simulator.backbone.encoder
    torch.testing.assert_close(
        encoder(frame), (mean - encoder.latents_mean) / encoder.latents_std, rtol=1e-5, atol=1e-5
    )


def test_the_original_layout_without_its_autoencoder_says_so(original_folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        (tmp_path / name).symlink_to(original_folder / name)
    with pytest.raises(MissingWeightsError, match=r"Wan2\.1_VAE\.pth"):
        build_simulator(SimulatorConfig(source=str(tmp_path), block=1, image_size_px=48))
    with pytest.raises(ValueError, match=r"block in 0\.\.3, got 20"):
        build_simulator(SimulatorConfig(source=str(tmp_path), image_size_px=48))


def test_snapping_finds_the_entries_that_the_reference_schedule_has() -> None:
    level = reference_level(300)
    assert level.timestep == 299
    assert level.t == pytest.approx(0.2999238, abs=5e-8)
    assert reference_level(0).timestep == 4
    assert reference_level(0).t == pytest.approx(0.005, abs=5e-5)
    assert reference_level(1000).timestep == 999
    assert reference_level(1000).t == pytest.approx(0.9996, abs=5e-5)
