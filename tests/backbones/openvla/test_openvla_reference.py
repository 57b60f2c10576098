"""OpenVLA against an independent forward pass in plain torch, from tiny weights under the published names.

The reference is written from the published description of the architecture and works on the checkpoint's own
tensors, so names, feature order, block depth, GELU form, mask and reading position are all checked at once.
"""

import math

import pytest
import torch
from torch.nn.functional import conv2d, layer_norm, scaled_dot_product_attention, silu, softmax

from vega_policy.backbones import BackboneConfig, build_backbone
from vega_policy.backbones.openvla import TINY
from vega_policy.backbones.openvla_weights import load_published
from vega_policy.fusion_config import FusionConfig

SLOTS, CAMERAS, DIM = 6, 2, 32
TASK = "Pick up the CUP"


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def tanh_gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class Reference:
    """The published model on published tensors; the switches make the mistakes that must show."""

    def __init__(self, checkpoint, **mistakes):
        self.w = checkpoint
        self.gelu = mistakes.get("gelu", gelu)
        self.siglip_first = mistakes.get("siglip_first", False)
        self.extra_blocks = mistakes.get("extra_blocks", 0)
        self.final_norm = mistakes.get("final_norm", False)
        self.causal = mistakes.get("causal", False)
        self.read_at_slot = mistakes.get("read_at_slot", False)
        self.rms_epsilon = mistakes.get("rms_epsilon", 1e-6)

    def linear(self, x, name):
        y = x @ self.w[f"{name}.weight"].T
        return y + self.w[f"{name}.bias"] if f"{name}.bias" in self.w else y

    def norm(self, x, name):
        return layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"], eps=1e-6)

    def attention(self, x, name, heads):
        dim = x.shape[-1] // heads
        q, k, v = self.linear(x, f"{name}.qkv").reshape(*x.shape[:2], 3, heads, dim).permute(2, 0, 3, 1, 4)
        mixed = softmax(q @ k.transpose(-1, -2) / math.sqrt(dim), dim=-1) @ v
        return self.linear(mixed.transpose(1, 2).reshape(x.shape), f"{name}.proj")

    def vit(self, images, name, heads, depth):
        patch = self.w[f"{name}.patch_embed.proj.weight"]
        x = conv2d(images, patch, self.w[f"{name}.patch_embed.proj.bias"], stride=patch.shape[-1])
        x = x.flatten(2).transpose(1, 2) + self.w[f"{name}.pos_embed"]
        prefix = [self.w[f"{name}.{t}"] for t in ("cls_token", "reg_token") if f"{name}.{t}" in self.w]
        x = torch.cat([p.expand(len(x), -1, -1) for p in prefix] + [x], dim=1)
        for i in range(depth - 1 + self.extra_blocks):
            block = f"{name}.blocks.{i}"
            y = self.attention(self.norm(x, f"{block}.norm1"), f"{block}.attn", heads)
            x = x + y * self.w.get(f"{block}.ls1.scale_factor", 1.0)
            y = self.gelu(self.linear(self.norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
            x = x + self.linear(y, f"{block}.mlp.fc2") * self.w.get(f"{block}.ls2.scale_factor", 1.0)
        if self.final_norm:
            x = self.norm(x, f"{name}.norm")
        return x[:, sum(p.shape[1] for p in prefix) :]

    def patches(self, images):
        mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        features = [
            self.vit((images - mean) / std, "vision_backbone.featurizer", 2, 3),
            self.vit((images - 0.5) / 0.5, "vision_backbone.fused_featurizer", 3, 3),
        ]
        x = torch.cat(features[::-1] if self.siglip_first else features, dim=-1)
        x = self.gelu(self.linear(x, "projector.fc1"))
        return self.linear(self.gelu(self.linear(x, "projector.fc2")), "projector.fc3")

    def rotate(self, x):
        """Llama's rotary embedding: channel i turns with channel i + dim / 2."""
        half = x.shape[-1] // 2
        angle = torch.arange(x.shape[-2])[:, None] * 10000.0 ** (-torch.arange(half) / half)
        first, second = x[..., :half], x[..., half:]
        turned = first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()
        return torch.cat(turned, dim=-1)

    def rms(self, x, name):
        scale = (x.square().mean(-1, keepdim=True) + self.rms_epsilon).rsqrt()
        return x * scale * self.w[f"{name}.weight"]

    def llama_layer(self, x, name):
        batch, length, width = x.shape
        y = self.rms(x, f"{name}.input_layernorm")
        projected = (self.linear(y, f"{name}.self_attn.{p}_proj") for p in "qkv")
        q, k, v = (p.reshape(batch, length, 4, -1).transpose(1, 2) for p in projected)
        mixed = scaled_dot_product_attention(self.rotate(q), self.rotate(k), v, is_causal=self.causal)
        x = x + self.linear(mixed.transpose(1, 2).reshape(batch, length, width), f"{name}.self_attn.o_proj")
        y = self.rms(x, f"{name}.post_attention_layernorm")
        y = silu(self.linear(y, f"{name}.mlp.gate_proj")) * self.linear(y, f"{name}.mlp.up_proj")
        return x + self.linear(y, f"{name}.mlp.down_proj")

    def __call__(self, images, bos, words, stop, proprio):
        """One sample; `words` ends in the empty word."""
        embed = self.w["language_model.model.embed_tokens.weight"]
        patches = self.patches(images).flatten(0, 1)
        empty = torch.zeros(SLOTS, DIM)
        x = torch.cat([embed[[bos]], patches, proprio, embed[words], empty, embed[[stop]]])[None]
        for i in range(2):
            x = self.llama_layer(x, f"language_model.model.layers.{i}")
        x = self.rms(x, "language_model.model.norm")
        first_read = x.shape[1] - 1 - SLOTS - (not self.read_at_slot)
        return x[0, first_read : first_read + SLOTS]


@pytest.fixture
def model(checkpoint):
    config = BackboneConfig(family="openvla", words=["pick", "up", "cup"])
    model = build_backbone(config, FusionConfig(), generative_dim=5)
    load_published(model, checkpoint, TINY, "the test's checkpoint")
    return model


@pytest.fixture
def images():
    return torch.rand(1, CAMERAS, 3, 56, 56, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def proprio():
    return torch.randn(1, 1, DIM, generator=torch.Generator().manual_seed(6))


def ours(model, images, proprio):
    with torch.no_grad():
        return model.read(
            images, None, model.prompt([TASK], CAMERAS), proprio, torch.zeros(SLOTS, DIM)
        ).hidden[0]


def expected(model, checkpoint, images, proprio, **mistakes):
    vocabulary = model.prompter.tokenizer.get_vocab()
    text = "in : what action should the robot take to pick up the cup ? out : ▁"
    words = [vocabulary[word] for word in text.split()]
    reference = Reference(checkpoint, **mistakes)
    return reference(images[0], vocabulary["<bos>"], words, vocabulary["<eos>"], proprio[0])


def test_vision_is_the_published_one(model, checkpoint, images):
    with torch.no_grad():
        patches = model.vision(images[0])
    torch.testing.assert_close(patches, Reference(checkpoint).patches(images[0]), atol=1e-5, rtol=1e-5)


def test_action_states_are_the_published_ones(model, checkpoint, images, proprio):
    reference = expected(model, checkpoint, images, proprio)
    torch.testing.assert_close(ours(model, images, proprio), reference, atol=1e-5, rtol=1e-5)


MISTAKES = {
    "gelu": tanh_gelu,
    "siglip_first": True,
    "extra_blocks": 1,
    "final_norm": True,
    "causal": True,
    "read_at_slot": True,
    "rms_epsilon": 1e-3,
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_known_mistakes_would_show(model, checkpoint, images, proprio, mistake):
    wrong = expected(model, checkpoint, images, proprio, **{mistake: MISTAKES[mistake]})
    assert (ours(model, images, proprio) - wrong).abs().max() > 2e-4
