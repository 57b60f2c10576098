"""The proprioception token."""

import math

import pytest
import torch

from vega_policy.proprio import ProprioProjector


def test_published_names_and_shapes():
    shapes = {name: tuple(value.shape) for name, value in ProprioProjector(8, 16).state_dict().items()}
    assert shapes == {"fc1.weight": (16, 8), "fc1.bias": (16,), "fc2.weight": (16, 16), "fc2.bias": (16,)}


def test_one_token_with_the_erf_gelu():
    projector = ProprioProjector(1, 1)
    with torch.no_grad():
        for parameter, value in zip(projector.parameters(), (1.0, 0.0, 1.0, 0.0), strict=True):
            parameter.fill_(value)
        token = projector(torch.tensor([[0.7]]))
    assert token.shape == (1, 1, 1)
    assert token.item() == pytest.approx(0.7 * 0.5 * (1 + math.erf(0.7 / math.sqrt(2))), abs=1e-6)


def test_wrong_state_length_is_named():
    with pytest.raises(ValueError, match="expected a state of 8 numbers, got 7"):
        ProprioProjector(8, 16)(torch.zeros(1, 7))
