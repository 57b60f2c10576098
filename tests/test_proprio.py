"""The state's token: what the projection sees of a state, and what it refuses."""

import math

import pytest
import torch

from vega_policy.configuration_vega import VegaConfig
from vega_policy.proprio import Octaves, ProprioProjector


def test_without_octaves_it_is_the_published_projection():
    projector = ProprioProjector(8, 16)
    assert {name: tuple(value.shape) for name, value in projector.state_dict().items()} == {
        "fc1.weight": (16, 8),
        "fc1.bias": (16,),
        "fc2.weight": (16, 16),
        "fc2.bias": (16,),
    }


def test_one_token_with_the_erf_gelu():
    projector = ProprioProjector(1, 1)
    with torch.no_grad():
        for parameter, value in zip(projector.parameters(), (1.0, 0.0, 1.0, 0.0), strict=True):
            parameter.fill_(value)
        token = projector(torch.tensor([[0.7]]))
    assert token.shape == (1, 1, 1)
    assert token.item() == pytest.approx(0.7 * 0.5 * (1 + math.erf(0.7 / math.sqrt(2))), abs=1e-6)


def test_octaves_begin_at_zero_so_that_a_trained_projection_acts_as_before():
    plain, fine = ProprioProjector(8, 16), ProprioProjector(8, 16, num_octaves=3)
    assert fine.load_state_dict(plain.state_dict(), strict=False).missing_keys == ["octaves.linear.weight"]
    state = torch.randn(3, 8)
    torch.testing.assert_close(fine(state), plain(state), rtol=0, atol=0)


def test_octaves_are_sines_and_cosines_of_halving_periods():
    octaves = Octaves(2, 8, num_octaves=2)
    with torch.no_grad():
        octaves.linear.weight.copy_(torch.eye(8))
    phases = [0.25 * math.pi, 0.5 * math.pi, -0.5 * math.pi, -math.pi]
    expected = torch.tensor([*map(math.sin, phases), *map(math.cos, phases)])
    torch.testing.assert_close(octaves(torch.tensor([[0.25, -0.5]]))[0], expected)


def test_they_tell_a_centimetre_among_metres_where_the_number_alone_learns_it_slowly():
    """0.016 is what a centimetre of height comes to where tables stand at 0.04 to 1.32 m."""
    heights = torch.arange(-1, 1, 0.016)[:, None]
    wanted = (torch.arange(len(heights)) % 4 < 2).float()  # two centimetres yes, two centimetres no
    losses = {}
    for octaves in (0, 6):
        torch.manual_seed(0)
        projector = ProprioProjector(1, 32, octaves)
        optimizer = torch.optim.Adam(projector.parameters(), lr=1e-2)
        for _ in range(200):
            loss = (projector(heights)[:, 0, 0] - wanted).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[octaves] = loss.item()
    assert losses[6] < 0.5 * losses[0]


@pytest.mark.parametrize("octaves", [0, 3])
def test_a_state_of_another_length_is_refused(octaves):
    with pytest.raises(ValueError, match="expected a state of 8 numbers, got 7"):
        ProprioProjector(8, 16, octaves)(torch.zeros(1, 7))


def test_octaves_of_a_state_that_is_left_out_are_refused():
    with pytest.raises(ValueError, match="use_proprioception=false"):
        VegaConfig(use_proprioception=False, proprioception_octaves=2)


def test_fewer_than_no_octaves_are_refused():
    with pytest.raises(ValueError, match="proprioception_octaves of at least 0, got -1"):
        VegaConfig(proprioception_octaves=-1)
