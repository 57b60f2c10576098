"""Every fusion against formulas written out here, and the promises that training relies on."""

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu, layer_norm

from vega_policy.fusion import Fusion, build_fusion
from vega_policy.fusion_config import FUSIONS, FusionConfig

SEMANTIC, GENERATIVE = 16, 24
GATED = ("gated", "gated_normed", "gated_residual", "channel_gated")
TOKENWISE = tuple(name for name in FUSIONS if name != "cross_attention")


def make(name: str, *, trained: bool = True, **settings) -> Fusion:
    """A fusion; `trained` moves every weight off its initial value, norms and the residual scale included."""
    torch.manual_seed(0)
    fusion = build_fusion(FusionConfig(name, **settings), semantic_dim=SEMANTIC, generative_dim=GENERATIVE)
    if trained:
        for weight in fusion.parameters():
            nn.init.normal_(weight, std=0.3)
    return fusion


def streams(n: int = 9, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(batch, n, SEMANTIC, generator=generator),
        torch.randn(batch, n, GENERATIVE, generator=generator),
    )


def reference_streams(fusion: Fusion, semantic: torch.Tensor, generative: torch.Tensor) -> dict:
    """Equations 6 and 7 of arXiv 2603.19235 from the weights alone, semantic stream first."""
    w = dict(fusion.named_parameters())
    hidden = gelu(generative @ w["generative_projector.0.weight"].T + w["generative_projector.0.bias"])
    projected = hidden @ w["generative_projector.2.weight"].T + w["generative_projector.2.bias"]
    size = (SEMANTIC,)
    semantic_n = layer_norm(semantic, size, w["semantic_norm.weight"], w["semantic_norm.bias"], 1e-5)
    generative_n = layer_norm(projected, size, w["generative_norm.weight"], w["generative_norm.bias"], 1e-5)
    logits = torch.cat([semantic_n, generative_n], -1) @ w["gate.weight"].T + w["gate.bias"]
    gate = 1 / (1 + torch.exp(-logits))
    return {"F": projected, "F_n": generative_n, "S": semantic, "S_n": semantic_n, "g": gate}


def test_gated_is_equation_8_on_the_raw_projections():
    fusion, (semantic, generative) = make("gated"), streams()
    r = reference_streams(fusion, semantic, generative)
    expected = (1 - r["g"]) * r["F"] + r["g"] * r["S"]
    torch.testing.assert_close(fusion(semantic, generative).tokens, expected)


def test_gated_normed_is_the_authors_code():
    fusion, (semantic, generative) = make("gated_normed"), streams()
    r = reference_streams(fusion, semantic, generative)
    expected = r["g"] * r["S_n"] + (1 - r["g"]) * r["F_n"]
    torch.testing.assert_close(fusion(semantic, generative).tokens, expected)


def test_gated_residual_is_the_authors_spatial_reasoning_code():
    fusion, (semantic, generative) = make("gated_residual", trained=False, residual_scale=0.2), streams()
    r = reference_streams(fusion, semantic, generative)
    expected = r["S"] + 0.2 * (r["g"] * r["S"] + (1 - r["g"]) * r["F"] - r["S"])
    torch.testing.assert_close(fusion(semantic, generative).tokens, expected)


def test_channel_gated_has_one_gate_per_channel_and_reports_their_mean():
    fusion, (semantic, generative) = make("channel_gated"), streams()
    r = reference_streams(fusion, semantic, generative)
    assert r["g"].shape[-1] == SEMANTIC
    fused = fusion(semantic, generative)
    torch.testing.assert_close(fused.tokens, (1 - r["g"]) * r["F"] + r["g"] * r["S"])
    torch.testing.assert_close(fused.gate, r["g"].mean(-1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_zero_scale_returns_the_semantic_tokens_bit_for_bit(dtype):
    fusion = make("gated_residual", trained=False)
    semantic, generative = (tokens.to(dtype) for tokens in streams())
    assert torch.equal(fusion(semantic, generative * 100).tokens, semantic)


def test_only_the_scale_learns_at_zero_and_everything_once_it_has_moved():
    fusion, inputs = make("gated_residual", trained=False), streams()
    fusion(*inputs).tokens.square().sum().backward()
    moving = {name for name, weight in fusion.named_parameters() if weight.grad.abs().sum() > 0}
    assert moving == {"scale"}
    with torch.no_grad():
        fusion.scale -= 0.1 * fusion.scale.grad.sign()
    fusion.zero_grad()
    fusion(*inputs).tokens.square().sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in fusion.parameters())


@pytest.mark.parametrize("name", FUSIONS)
def test_keeps_shape_and_dtype_and_trains_every_weight(name):
    fusion = make(name, trained=False, residual_scale=0.1)
    semantic, generative = (tokens.to(torch.bfloat16) for tokens in streams(n=7))
    fused = fusion(semantic, generative)
    assert fused.tokens.shape == semantic.shape
    assert fused.tokens.dtype == torch.bfloat16
    assert (fused.gate is not None) == (name in GATED)
    if fused.gate is not None:
        assert fused.gate.shape == (2, 7)
        assert fused.gate.dtype == torch.float32
    weights = list(fusion.parameters())
    if weights:
        fused.tokens.float().square().sum().backward()
        assert all(weight.grad is not None for weight in weights)


@pytest.mark.parametrize("name", TOKENWISE)
def test_a_generative_token_reaches_only_its_own_place(name):
    fusion, (semantic, generative) = make(name), streams()
    before = fusion(semantic, generative).tokens
    generative[0, 4] += 1
    changed = (fusion(semantic, generative).tokens != before).any(-1).nonzero().tolist()
    assert changed == ([] if name == "none" else [[0, 4]])


@pytest.mark.parametrize("num_blocks", [1, 3])
def test_cross_attention_sees_its_whole_image_and_no_other(num_blocks):
    fusion, (semantic, generative) = make("cross_attention", num_blocks=num_blocks), streams()
    before = fusion(semantic, generative).tokens
    generative[0, 4] += 1
    changed = (fusion(semantic, generative).tokens != before).any(-1)
    assert changed[0].all()
    assert not changed[1].any()
    assert len(fusion.blocks) == num_blocks


@pytest.mark.parametrize("name", ["add", "concat", "generative_only", "none"])
def test_ungated_fusions_against_their_formulas(name):
    fusion, (semantic, generative) = make(name), streams()
    projected = None if name == "none" else fusion.generative_projector(generative)
    expected = {
        "none": lambda: semantic,
        "generative_only": lambda: projected,
        "add": lambda: semantic + projected,
        "concat": lambda: fusion.merge(torch.cat([semantic, projected], -1)),
    }[name]()
    torch.testing.assert_close(fusion(semantic, generative).tokens, expected)


@pytest.mark.parametrize("name", ["gated", "channel_gated"])
def test_gate_one_is_semantic_and_gate_zero_generative(name):
    fusion, (semantic, generative) = make(name), streams()
    nn.init.zeros_(fusion.gate.weight)
    nn.init.constant_(fusion.gate.bias, 60.0)
    torch.testing.assert_close(fusion(semantic, generative).tokens, semantic)
    nn.init.constant_(fusion.gate.bias, -60.0)
    torch.testing.assert_close(fusion(semantic, generative).tokens, fusion.generative_projector(generative))


def test_gate_logits_are_float32_in_bfloat16_weights_and_under_autocast():
    inputs = streams()
    fusion = make("gated", trained=False).to(torch.bfloat16)
    nn.init.zeros_(fusion.gate.weight)
    nn.init.constant_(fusion.gate.bias, 8.0)
    exact = torch.sigmoid(torch.tensor(8.0))  # 0.99966, which bfloat16 rounds to 1
    torch.testing.assert_close(fusion(*inputs).gate, exact.expand(2, 9))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert make("gated", trained=False)(*inputs).gate.dtype == torch.float32
        torch.testing.assert_close(fusion(*inputs).gate, exact.expand(2, 9))


def test_unknown_name_gives_the_nearest():
    with pytest.raises(ValueError, match="gated_normed"):
        FusionConfig("gate_normed")
    with pytest.raises(ValueError, match="num_blocks must be at least 1"):
        FusionConfig("cross_attention", num_blocks=0)


def test_streams_that_do_not_fit_are_refused():
    fusion, (semantic, generative) = make("gated"), streams()
    with pytest.raises(ValueError, match=r"\(2, 9\).*\(2, 8\)"):
        fusion(semantic, generative[:, :8])
    with pytest.raises(ValueError, match=r"expected widths 16 .* and 24 .*, got 16 and 16"):
        fusion(semantic, semantic)
