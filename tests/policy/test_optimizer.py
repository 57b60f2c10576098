"""Muon beside AdamW: each against torch's own, and what a checkpoint keeps of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lerobot.optim import load_optimizer_state, save_optimizer_state
from torch import Tensor, nn

from vega_policy.configuration_vega import VegaConfig
from vega_policy.modeling_vega import VegaPolicy
from vega_policy.optimizer import Muon, MuonConfig, linear_and_other, orthogonalised

MakePolicy = Callable[..., VegaPolicy]

STEPS = 5


def model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Embedding(11, 24), nn.Linear(24, 40), nn.GELU(), nn.LayerNorm(40), nn.Linear(40, 3)
    )


def train(module: nn.Module, optimizer: torch.optim.Optimizer, first: int = 0, last: int = STEPS) -> None:
    for step in range(first, last):
        words = torch.randint(0, 11, (16,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        module(words).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("shape", [(24, 24), (24, 90), (90, 24)], ids=["square", "wide", "tall"])
def test_every_singular_value_becomes_about_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = orthogonalised(torch.stack([1000 * matrix.flip(0), matrix]))
    values = torch.linalg.svdvals(found[1])
    assert found.shape == (2, *shape)
    assert torch.allclose(found[0].flip(0), found[1], atol=1e-4), "what is beside a matrix changes nothing"
    assert values.min() > 0.3
    assert values.max() < 1.3
    assert torch.linalg.svdvals(matrix).max() > 5


def test_orthogonal_groups_move_as_torchs_muon_does() -> None:
    ours, theirs = model()[1], model()[1]
    rate = 0.01
    mine = Muon([{"params": [ours.weight], "orthogonal": True}], lr=rate, weight_decay=0.1)
    stock = torch.optim.Muon(
        [theirs.weight], lr=rate, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    before = ours.weight.detach().clone()
    for step in range(STEPS):
        grad = torch.randn(40, 24, generator=torch.Generator().manual_seed(step))
        for layer, optimizer in ((ours, mine), (theirs, stock)):
            layer.weight.grad = grad.clone()
            optimizer.step()
    moved = (ours.weight - before).norm()
    assert (ours.weight - theirs.weight).norm() < 0.02 * moved  # torch's products are in bfloat16


def test_other_groups_move_as_torchs_adamw_does() -> None:
    ours, theirs = model(), model()
    settings = {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.1}
    train(ours, Muon(ours.parameters(), **settings))
    train(theirs, torch.optim.AdamW(theirs.parameters(), **settings))
    for mine, stock in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, stock)


def test_one_rate_moves_both_groups_alike() -> None:
    module = model()
    before = [value.detach().clone() for value in module.parameters()]
    train(module, Muon(linear_and_other(module), lr=0.01, weight_decay=0.0), last=1)
    embedding, weight, *_ = (
        (after - was).square().mean().sqrt().item() / 0.01
        for after, was in zip(module.parameters(), before, strict=True)
    )
    assert 0.1 < weight < 0.4
    assert 0.1 < embedding <= 1.01


def test_a_resumed_optimizer_goes_on_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, halves = model(), model()
    train(whole, Muon(linear_and_other(whole)))
    first = Muon(linear_and_other(halves))
    train(halves, first, last=2)
    save_optimizer_state(first, tmp_path)
    train(halves, load_optimizer_state(Muon(linear_and_other(halves)), tmp_path), first=2)
    for mine, other in zip(whole.parameters(), halves.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=0)


def test_what_is_no_matrix_cannot_be_orthogonal() -> None:
    with pytest.raises(ValueError, match=r"expected matrices in an orthogonal group, got shape \(24,\)"):
        MuonConfig().build([{"params": [nn.Parameter(torch.zeros(24))], "orthogonal": True}])


def test_a_policy_gives_muon_its_linear_layers_and_adamw_the_rest(make_policy: MakePolicy) -> None:
    policy = make_policy(optimizer_name="muon")
    groups = policy.get_optim_params()
    names = {id(value): name for name, value in policy.named_parameters()}
    linear, other = ({names[id(value)] for value in group["params"]} for group in groups)
    assert linear | other == {name for name, value in policy.named_parameters() if value.requires_grad}
    assert not linear & other
    assert any(name.endswith("q_proj.weight") for name in linear)
    assert any("embed_tokens" in name for name in other)
    assert any("patch_embedding.weight" in name for name in other)
    assert isinstance(policy.config.get_optimizer_preset().build(groups), Muon)


def test_an_unknown_optimizer_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"optimizer_name.*muno.*muon"):
        VegaConfig(optimizer_name="muno")


def test_parameters_without_a_gradient_stay() -> None:
    module = model()
    still: Tensor = module[4].weight
    before, optimizer = still.detach().clone(), Muon(linear_and_other(module), weight_decay=0.5)
    module(torch.arange(11)).square().sum().backward()
    still.grad = None
    optimizer.step()
    torch.testing.assert_close(still, before, rtol=0, atol=0)


def test_frozen_parameters_belong_to_no_group() -> None:
    module = model()
    module[1].requires_grad_(requires_grad=False)
    linear, other = linear_and_other(module)
    frozen = {id(module[1].weight), id(module[1].bias)}
    assert not frozen & {id(value) for value in [*linear["params"], *other["params"]]}


def test_parameters_that_nobody_grouped_are_refused() -> None:
    with pytest.raises(ValueError, match=r"--policy\.optimizer_name=muon"):
        MuonConfig().build(model().parameters())


def test_a_shared_word_embedding_is_no_linear_layer() -> None:
    module = nn.ModuleList([nn.Embedding(11, 24), nn.Linear(24, 11, bias=False)])
    module[1].weight = module[0].weight
    linear, other = linear_and_other(module)
    assert not linear["params"]
    assert len(other["params"]) == 1
