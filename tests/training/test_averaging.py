"""The moving average of the weights."""

import pytest
import torch

from vega_policy.training.averaging import WeightAverage


def test_an_average_of_coarse_weights_follows_small_steps() -> None:
    module = torch.nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    module.weight.data.fill_(1.0)
    average = WeightAverage(module, decay=0.999)
    average.updates = 10**6  # beyond the warm-up
    module.weight.data.fill_(2.0)
    for _ in range(1000):
        average.update()
    expected = 2 - 0.999**1000
    assert average.state_dict()["weight"].item() == pytest.approx(expected, rel=1e-4)
    with average.in_place():
        assert module.weight.item() == pytest.approx(expected, rel=2**-8)
    assert average.state_dict()["weight"].item() == pytest.approx(expected, rel=1e-4)


def test_the_average_follows_and_steps_back() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(0.0)
    average = WeightAverage(module, decay=0.5)
    module.weight.data.fill_(1.0)
    average.update()  # the decay warms up: 2/11 of the old
    with average.in_place():
        assert module.weight.item() == pytest.approx(1 - 2 / 11)
    assert module.weight.item() == 1.0
    other = WeightAverage(torch.nn.Linear(2, 2), decay=0.5)
    with pytest.raises(ValueError, match="other weights"):
        other.load_state_dict(average.state_dict())
