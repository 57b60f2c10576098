"""The attention mask over action slots, as a boolean 4-D tensor for sdpa.

Never give it to eager attention: there a boolean mask is added to the scores as 0 and 1 and masks nothing.
transformers passes a 4-D mask on untouched, so padding and causality are entirely its author's business.
"""

import torch
from jaxtyping import Bool
from torch import Tensor


def slot_mask(
    prefix: Bool[Tensor, "batch length"], slots: int, *, causal_prefix: bool = True
) -> Bool[Tensor, "batch 1 total total"]:
    """Which position (row) may attend to which (column): True = attend.

    Slots see the whole prefix and each other; the prefix never sees them. Padding is seen by nobody but
    itself, which keeps its rows finite.

    Args:
        prefix: False at padding.
        slots: Number of slots behind the prefix.
        causal_prefix: Whether a prefix token sees only earlier ones; PaliGemma's see each other.
    """
    batch, length = prefix.shape
    total = length + slots
    position = torch.arange(total, device=prefix.device)
    row, column = position[:, None], position[None, :]
    allowed = (column <= row) if causal_prefix else (column < length)
    allowed = allowed | (row >= length)
    seen = torch.cat([prefix, prefix.new_ones(batch, slots)], dim=1)
    return ((allowed & seen[:, None, :]) | (row == column))[:, None]
