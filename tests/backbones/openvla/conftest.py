"""A tiny OpenVLA checkpoint under the names of the published one (timm 0.9 and transformers 4.40)."""

import pytest
import torch

from vega_policy.backbones.openvla import TINY

DIM = 32


def tower_shapes(name, width, mlp, depth, layer_scale):
    shapes = {
        f"{name}.patch_embed.proj.weight": (width, 3, 14, 14),
        f"{name}.patch_embed.proj.bias": (width,),
    }
    shapes[f"{name}.pos_embed"] = (1, 16, width)
    for i in range(depth):
        block = f"{name}.blocks.{i}"
        linears = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
        linears |= {"mlp.fc1": (mlp, width), "mlp.fc2": (width, mlp)}
        for part, shape in linears.items():
            shapes |= {f"{block}.{part}.weight": shape, f"{block}.{part}.bias": shape[:1]}
        for norm in ("norm1", "norm2"):
            shapes |= {f"{block}.{norm}.weight": (width,), f"{block}.{norm}.bias": (width,)}
        if layer_scale:
            shapes |= {f"{block}.ls1.scale_factor": (width,), f"{block}.ls2.scale_factor": (width,)}
    return shapes | {f"{name}.norm.weight": (width,), f"{name}.norm.bias": (width,)}


def language_shapes():
    text = "language_model.model"
    shapes = {f"{text}.embed_tokens.weight": (64, DIM), f"{text}.norm.weight": (DIM,)}
    for i in range(2):
        layer = f"{text}.layers.{i}"
        shapes |= {f"{layer}.self_attn.{p}_proj.weight": (DIM, DIM) for p in "qkvo"}
        shapes |= {f"{layer}.mlp.{p}_proj.weight": (64, DIM) for p in ("gate", "up")}
        shapes |= {f"{layer}.mlp.down_proj.weight": (DIM, 64)}
        shapes |= {f"{layer}.{norm}_layernorm.weight": (DIM,) for norm in ("input", "post_attention")}
    return shapes | {"language_model.lm_head.weight": (64, DIM)}


def checkpoint_shapes():
    dino, siglip = "vision_backbone.featurizer", "vision_backbone.fused_featurizer"
    shapes = tower_shapes(dino, 32, 128, 3, layer_scale=True)
    shapes |= {f"{dino}.cls_token": (1, 1, 32), f"{dino}.reg_token": (1, 4, 32)}
    shapes |= tower_shapes(siglip, 48, 80, 3, layer_scale=False)
    shapes |= {f"{siglip}.attn_pool.latent": (1, 1, 48), f"{siglip}.attn_pool.kv.weight": (96, 48)}
    for name, shape in {"fc1": (320, 80), "fc2": (DIM, 320), "fc3": (DIM, DIM)}.items():
        shapes |= {f"projector.{name}.weight": shape, f"projector.{name}.bias": shape[:1]}
    return shapes | language_shapes()


@pytest.fixture(scope="session")
def published_names():
    """Name -> shape of every tensor in the tiny checkpoint."""
    assert TINY.text["hidden_size"] == DIM
    return checkpoint_shapes()


@pytest.fixture
def checkpoint(published_names):
    """Random tensors; norms and scales around one, so that no part of the network is switched off."""
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, shape in published_names.items():
        around_one = ("norm" in name and name.endswith("weight")) or "scale_factor" in name
        spread = 0.2 if around_one or len(shape) == 1 else 1.5 * shape[-1] ** -0.5
        tensors[name] = spread * torch.randn(shape, generator=generator) + float(around_one)
    return tensors
