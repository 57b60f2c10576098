"""Proprioception as one token of the backbone's sequence.

Parameter names are those of OpenVLA-OFT's published `proprio_projector--*_checkpoint.pt`. The state has to
come normalised with the same statistics as in training: it carries no scale of its own.
"""

from jaxtyping import Float
from torch import Tensor, nn


class ProprioProjector(nn.Module):
    """Linear, erf GELU, Linear: a normalised state vector becomes a token as wide as the backbone's."""

    def __init__(self, state_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(state_dim, hidden_dim)
        self.act_fn1 = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, state: Float[Tensor, "batch state_dim"]) -> Float[Tensor, "batch 1 dim"]:
        """One token per sample, in the dtype of the weights.

        Raises:
            ValueError: if the state has another length than the one trained with.
        """
        if state.shape[-1] != self.fc1.in_features:
            raise ValueError(
                f"expected a state of {self.fc1.in_features} numbers, got {state.shape[-1]}: check "
                "the dataset's observation.state against the configuration"
            )
        return self.fc2(self.act_fn1(self.fc1(state.to(self.fc1.weight.dtype))))[:, None]
