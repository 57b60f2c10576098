"""A moving average of the weights, which acts better than the last ones.

The decay follows training: early weights are forgotten quickly. Checkpoints keep both: training resumes from
the raw weights, and the averaged ones are a policy of their own. The average is kept in float32 whatever the
weights are in: in bfloat16 a thousandth of a difference would be rounded away.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """An exponential moving average of a module's trainable weights.

    Args:
        module: The module that is trained.
        decay: In [0, 1): how much of the average one update keeps, in the long run.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"expected ema_decay in [0, 1), got {decay}")
        self._decay = decay
        self._live = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self._mean = {name: value.detach().float().clone() for name, value in self._live.items()}
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of now in; the decay warms up as (1 + n) / (10 + n), like TensorFlow's."""
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        live = [value.to(self._mean[name].dtype) for name, value in self._live.items()]
        torch._foreach_lerp_(list(self._mean.values()), live, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the module has the averaged weights."""
        raw = {name: value.detach().clone() for name, value in self._live.items()}
        self._set(self._mean)
        try:
            yield
        finally:
            self._set(raw)

    def state_dict(self) -> dict[str, Tensor]:
        """All that a resumed run needs."""
        return {**self._mean, "updates": torch.tensor(self.updates)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a stored state.

        Raises:
            ValueError: If it is of another module.
        """
        stored = {name: value for name, value in state.items() if name != "updates"}
        if stored.keys() != self._mean.keys():
            differing = sorted(stored.keys() ^ self._mean.keys())
            raise ValueError(f"the stored average is of other weights, first {differing[0]}")
        for name, value in stored.items():
            self._mean[name].copy_(value)
        self.updates = int(state["updates"])

    @torch.no_grad()
    def _set(self, weights: Mapping[str, Tensor]) -> None:
        for name, live in self._live.items():
            live.copy_(weights[name])
