"""Flow matching: the direction of time, the integrator, and noise that ignores the batch."""

import pytest
import torch

from vega_policy.heads.build import build_head
from vega_policy.heads.config import HeadConfig
from vega_policy.heads.flow import FlowPath
from vega_policy.heads.noise import normal, per_sample


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def make_head(num_euler_steps=4):
    config = HeadConfig(
        name="flow", slots="per_step", width=16, num_attention_heads=2, num_euler_steps=num_euler_steps
    )
    return build_head(config, hidden_dim=8, chunk_length=5, action_dim=3)


def test_time_one_is_noise_and_zero_is_actions():
    actions, noise = torch.randn(2, 5, 3, generator=seeded(0)), torch.randn(2, 5, 3, generator=seeded(1))
    torch.testing.assert_close(FlowPath(actions, noise, torch.ones(2)).noisy, noise)
    torch.testing.assert_close(FlowPath(actions, noise, torch.zeros(2)).noisy, actions)


def test_velocity_is_the_derivative_of_the_path():
    path = FlowPath.draw(torch.randn(2, 5, 3, generator=seeded(0)), seeded(1))
    earlier = FlowPath(path.actions, path.noise, path.time - 0.25)
    torch.testing.assert_close(path.noisy - earlier.noisy, 0.25 * path.velocity, atol=1e-5, rtol=1e-5)


def test_training_times_prefer_the_noisy_end():
    times = FlowPath.draw(torch.zeros(4000, 1, 1), seeded(0)).time
    assert times.min() > 0
    assert times.max() <= 1
    assert abs(times.mean().item() - 0.6) < 0.02  # the mean of Beta(1.5, 1) is 1.5 / 2.5


def test_untrained_network_predicts_no_velocity_so_samples_are_the_noise():
    head = make_head()
    chunk = head.sample(torch.randn(2, 5, 8, generator=seeded(0)), seeded(3))
    torch.testing.assert_close(chunk, normal(seeded(3), (2, 5, 3)))


@pytest.mark.parametrize("num_euler_steps", [1, 4])
def test_the_true_velocity_carries_noise_to_the_actions(num_euler_steps, monkeypatch):
    head = make_head(num_euler_steps)
    actions = torch.rand(2, 5, 3, generator=seeded(0))
    noise = normal(seeded(3), (2, 5, 3))
    monkeypatch.setattr(head.network, "forward", lambda noisy, time, condition: noise - actions)
    chunk = head.sample(torch.zeros(2, 5, 8), seeded(3))
    torch.testing.assert_close(chunk, actions, atol=1e-5, rtol=1e-5)


def test_one_generator_gives_a_sample_the_same_noise_in_any_batch():
    alone, batched = normal(seeded(0), (1, 8, 7)), normal(seeded(0), (16, 8, 7))
    torch.testing.assert_close(alone[0], batched[0], atol=0, rtol=0)
    assert not torch.equal(batched[0], batched[1])


def test_own_generators_give_a_sample_the_same_noise_at_any_place():
    there = normal([seeded(1), seeded(2), seeded(3)], (3, 8, 7))
    torch.testing.assert_close(normal([seeded(3)], (1, 8, 7))[0], there[2], atol=0, rtol=0)


def test_number_of_generators_must_fit():
    with pytest.raises(ValueError, match=r"one for each of the 3 samples, got 2"):
        per_sample([seeded(0), seeded(1)], 3)


def test_global_random_state_is_neither_read_nor_written():
    head = make_head()
    torch.nn.init.normal_(head.network.velocity_out.weight)
    hidden = torch.zeros(1, 5, 8)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = head.sample(hidden, seeded(9))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    torch.testing.assert_close(head.sample(hidden, seeded(9)), first, atol=0, rtol=0)


def test_time_reaches_the_velocity():
    head = make_head()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    noisy, condition = torch.randn(1, 5, 3, generator=seeded(0)), torch.zeros(1, 5, 8)
    early = head.network(noisy, torch.tensor([0.1]), condition)
    late = head.network(noisy, torch.tensor([0.9]), condition)
    assert not torch.allclose(early, late, atol=1e-3)
