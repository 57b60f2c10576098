"""The mask over action slots, cell by cell."""

import torch

from vega_policy.backbones.attention import slot_mask


def grid(*rows: str) -> torch.Tensor:
    return torch.tensor([[cell == "x" for cell in row] for row in rows])


def test_causal_prefix_with_padding_on_the_left():
    mask = slot_mask(torch.tensor([[False, True, True]]), slots=2)
    expected = grid(
        "x....",
        ".x...",
        ".xx..",
        ".xxxx",
        ".xxxx",
    )
    assert mask.shape == (1, 1, 5, 5)
    assert torch.equal(mask[0, 0], expected)


def test_prefix_that_sees_itself():
    mask = slot_mask(torch.tensor([[False, True, True]]), slots=2, causal_prefix=False)
    expected = grid(
        "xxx..",
        ".xx..",
        ".xx..",
        ".xxxx",
        ".xxxx",
    )
    assert torch.equal(mask[0, 0], expected)


def test_every_sample_has_its_own_padding():
    mask = slot_mask(torch.tensor([[False, True], [True, True]]), slots=1)
    assert torch.equal(mask[:, 0, 2], grid(".xx", "xxx"))
