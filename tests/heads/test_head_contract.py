"""What every head promises the policy: shapes, masking, seeding, batch independence, dtypes."""

import pytest
import torch

from vega_policy.heads.build import build_head
from vega_policy.heads.config import HeadConfig

HIDDEN_DIM, CHUNK, ACTION_DIM = 16, 5, 3
EVERY_HEAD = [(name, slots) for name in ("l1", "flow") for slots in ("per_dimension", "per_step")]


def make_head(name, slots="per_step", fresh=False):
    config = HeadConfig(name=name, slots=slots, width=32, num_attention_heads=4, num_euler_steps=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = build_head(config, HIDDEN_DIM, CHUNK, ACTION_DIM)
        # weights that start at zero would hide what depends on them
        for parameter in () if fresh else head.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return head


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def inputs(head, batch=4, seed=1):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(batch, head.num_slots, HIDDEN_DIM, generator=generator)
    target = torch.rand(batch, CHUNK, ACTION_DIM, generator=generator) * 2 - 1
    return hidden, target, torch.zeros(batch, CHUNK, dtype=torch.bool)


@pytest.mark.parametrize(("name", "slots"), EVERY_HEAD)
def test_shapes_and_dtypes(name, slots):
    head = make_head(name, slots)
    hidden, target, pads = inputs(head)
    loss = head.loss(hidden, target, pads, seeded(0)[0])
    chunk = head.sample(hidden, seeded(0)[0])
    assert loss.shape == (4,)
    assert chunk.shape == (4, CHUNK, ACTION_DIM)
    assert loss.dtype == chunk.dtype == torch.float32


@pytest.mark.parametrize(("name", "slots"), EVERY_HEAD)
def test_padded_steps_carry_no_weight(name, slots):
    head = make_head(name, slots)
    hidden, target, pads = inputs(head)
    pads[:, 3:] = True
    gradient = gradient_of_target if name == "l1" else gradient_of_velocity
    found = gradient(head, hidden, target, pads)
    assert found[~pads].abs().min() > 0
    assert found[pads].abs().max() == 0


def gradient_of_target(head, hidden, target, pads):
    target = target.clone().requires_grad_()
    head.loss(hidden, target, pads, seeded(0)[0]).sum().backward()
    return target.grad


def gradient_of_velocity(head, hidden, target, pads):
    """Of what the network gives: as a context for the other steps it reads the padded actions, unweighted."""
    made = []
    head.network.register_forward_hook(lambda module, arguments, output: made.append(output))
    errors = head.loss(hidden, target, pads, seeded(0)[0])
    (gradient,) = torch.autograd.grad(errors.sum(), made)
    return gradient


@pytest.mark.parametrize("name", ["l1", "flow"])
def test_all_padding_gives_zero_not_nan(name):
    head = make_head(name)
    hidden, target, pads = inputs(head)
    pads[0] = True
    loss = head.loss(hidden, target, pads, seeded(0)[0])
    assert loss[0] == 0
    assert torch.isfinite(loss).all()


@pytest.mark.parametrize("name", ["l1", "flow"])
def test_loss_of_a_sample_does_not_depend_on_its_neighbours_padding(name):
    head = make_head(name)
    hidden, target, pads = inputs(head)
    whole = head.loss(hidden, target, pads, seeded(0, 1, 2, 3))
    pads[1, 2:] = True
    shortened = head.loss(hidden, target, pads, seeded(0, 1, 2, 3))
    torch.testing.assert_close(whole[[0, 2, 3]], shortened[[0, 2, 3]])
    assert whole[1] != shortened[1]


@pytest.mark.parametrize("name", ["l1", "flow"])
def test_samples_depend_on_their_own_hidden_states_only(name):
    head = make_head(name)
    hidden, _, _ = inputs(head)
    before = head.sample(hidden, seeded(0, 1, 2, 3))
    hidden[2] = -hidden[2]
    after = head.sample(hidden, seeded(0, 1, 2, 3))
    torch.testing.assert_close(before[[0, 1, 3]], after[[0, 1, 3]])
    assert not torch.allclose(before[2], after[2], atol=1e-3)


@pytest.mark.parametrize("name", ["l1", "flow"])
def test_same_actions_alone_and_in_a_batch(name):
    head = make_head(name)
    hidden, _, _ = inputs(head)
    batched = head.sample(hidden, seeded(5, 6, 7, 8))
    for i, seed in enumerate((5, 6, 7, 8)):
        torch.testing.assert_close(
            head.sample(hidden[i : i + 1], seeded(seed)), batched[i : i + 1], atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize(("name", "slots"), EVERY_HEAD)
def test_gradients_reach_every_parameter_and_the_backbone(name, slots):
    head = make_head(name, slots)
    hidden, target, pads = inputs(head)
    hidden.requires_grad_()
    head.loss(hidden, target, pads, seeded(0)[0]).mean().backward()
    assert hidden.grad.abs().max() > 0
    untouched = [n for n, p in head.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert untouched == []


@pytest.mark.parametrize(("name", "slots"), EVERY_HEAD)
def test_bfloat16_stays_close_to_float32(name, slots):
    head = make_head(name, slots)
    hidden, target, pads = inputs(head)
    exact = head.sample(hidden, seeded(0)[0]), head.loss(hidden, target, pads, seeded(0)[0])
    head.bfloat16()
    rounded = (
        head.sample(hidden.bfloat16(), seeded(0)[0]),
        head.loss(hidden.bfloat16(), target, pads, seeded(0)[0]),
    )
    for reference, value in zip(exact, rounded, strict=True):
        assert value.dtype == torch.float32
        error = (value - reference).norm() / reference.norm()
        assert 0 < error < 0.05


def test_float32_head_accepts_a_bfloat16_backbone():
    head = make_head("l1")
    hidden, _, _ = inputs(head)
    assert head.sample(hidden.bfloat16(), seeded(0)[0]).dtype == torch.float32


def test_wrong_number_of_slots_is_named():
    head = make_head("l1", "per_dimension")
    with pytest.raises(ValueError, match=r"\(batch, 15, 16\), got \(2, 5, 16\)"):
        head.sample(torch.zeros(2, CHUNK, HIDDEN_DIM), seeded(0)[0])


@pytest.mark.parametrize("name", ["l1", "flow"])
def test_learns_one_batch(name):
    head = make_head(name, fresh=True)
    hidden, target, pads = inputs(head)
    optimizer = torch.optim.Adam(head.parameters(), lr=5e-3)
    generator = seeded(0)[0]
    before = (head.sample(hidden, seeded(1)[0]) - target).abs().mean()
    for _ in range(150):
        optimizer.zero_grad()
        head.loss(hidden, target, pads, generator).mean().backward()
        optimizer.step()
    after = (head.sample(hidden, seeded(1)[0]) - target).abs().mean()
    assert after < before / 2
