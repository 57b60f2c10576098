"""The regression head against OpenVLA-OFT's description: formula, names, slot order."""

import torch

from vega_policy.heads.build import build_head
from vega_policy.heads.config import HeadConfig

OFT_NAMES = {
    "model.layer_norm1.weight": (6,),
    "model.layer_norm1.bias": (6,),
    "model.fc1.weight": (4, 6),
    "model.fc1.bias": (4,),
    "model.mlp_resnet_blocks.0.ffn.0.weight": (4,),
    "model.mlp_resnet_blocks.0.ffn.0.bias": (4,),
    "model.mlp_resnet_blocks.0.ffn.1.weight": (4, 4),
    "model.mlp_resnet_blocks.0.ffn.1.bias": (4,),
    "model.mlp_resnet_blocks.1.ffn.0.weight": (4,),
    "model.mlp_resnet_blocks.1.ffn.0.bias": (4,),
    "model.mlp_resnet_blocks.1.ffn.1.weight": (4, 4),
    "model.mlp_resnet_blocks.1.ffn.1.bias": (4,),
    "model.layer_norm2.weight": (4,),
    "model.layer_norm2.bias": (4,),
    "model.fc2.weight": (2, 4),
    "model.fc2.bias": (2,),
}


def make_head():
    head = build_head(HeadConfig(width=4), hidden_dim=3, chunk_length=5, action_dim=2)
    generator = torch.Generator().manual_seed(0)
    for parameter in head.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return head


def normalised(x, weight, bias):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight + bias


def reference(weights, hidden):
    """OpenVLA-OFT's head written out for one sample: two slots of one step side by side, then the MLP."""
    w = {name.removeprefix("model."): value for name, value in weights.items()}
    steps = torch.stack([torch.cat([hidden[2 * i], hidden[2 * i + 1]]) for i in range(5)])
    x = normalised(steps, w["layer_norm1.weight"], w["layer_norm1.bias"])
    x = (x @ w["fc1.weight"].T + w["fc1.bias"]).clamp(min=0)
    for i in range(2):
        block = f"mlp_resnet_blocks.{i}.ffn"
        y = normalised(x, w[f"{block}.0.weight"], w[f"{block}.0.bias"])
        x = x + (y @ w[f"{block}.1.weight"].T + w[f"{block}.1.bias"]).clamp(min=0)
    x = normalised(x, w["layer_norm2.weight"], w["layer_norm2.bias"])
    return x @ w["fc2.weight"].T + w["fc2.bias"]


def test_state_dict_has_the_published_names_and_shapes():
    assert {name: tuple(value.shape) for name, value in make_head().state_dict().items()} == OFT_NAMES


def test_forward_is_the_published_formula():
    head = make_head()
    hidden = torch.randn(2, head.num_slots, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        chunk = head(hidden)
        for i in range(2):
            torch.testing.assert_close(
                chunk[i], reference(head.state_dict(), hidden[i]), atol=1e-5, rtol=1e-5
            )


def test_published_size_on_the_meta_device():
    with torch.device("meta"):
        head = build_head(HeadConfig(width=4096), hidden_dim=4096, chunk_length=8, action_dim=7)
    assert head.num_slots == 56
    assert head.model.fc1.weight.shape == (4096, 28672)
    assert (
        sum(p.numel() for p in head.parameters())
        == 28672 * 2 + 28672 * 4096 + 4096 + 2 * (2 * 4096 + 4096 * 4096 + 4096) + 2 * 4096 + 7 * 4096 + 7
    )


def test_loss_is_the_mean_absolute_error():
    head = make_head()
    hidden = torch.randn(3, head.num_slots, 3, generator=torch.Generator().manual_seed(2))
    target = torch.zeros(3, 5, 2)
    pads = torch.zeros(3, 5, dtype=torch.bool)
    pads[1, 2:] = True
    loss = head.loss(hidden, target, pads, torch.Generator())
    chunk = head(hidden)
    torch.testing.assert_close(loss[0], chunk[0].abs().mean())
    torch.testing.assert_close(loss[1], chunk[1, :2].abs().mean())
