"""The interface every action head keeps: a loss per sample and a seeded sample.

Actions inside a head are normalised, (-1, 1) for most of the data; the post-processor un-normalises them.
Losses come back one per sample, so that `mean()` weighs every sample alike however much of it is padding.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vega_policy.heads.config import HeadConfig
from vega_policy.heads.noise import Generators
from vega_policy.heads.prefix import ChunkPrefix

SLOT_STD = 0.02  # as transformers initialises word embeddings


class ActionHead(nn.Module, ABC):
    """Turns hidden states at the action slots into a chunk of actions.

    Attributes:
        num_slots: how many action slots the backbone has to provide, step-major.
        slots: their embeddings before the backbone, (num_slots, hidden_dim): zeros, or learned.
        step_dim: width of the features that one control step gets once its slots are concatenated.
    """

    slots: Tensor

    def __init__(self, config: HeadConfig, hidden_dim: int, chunk_length: int, action_dim: int) -> None:
        super().__init__()
        self.chunk_length = chunk_length
        self.action_dim = action_dim
        slots_per_step = action_dim if config.slots == "per_dimension" else 1
        self.num_slots = chunk_length * slots_per_step
        self.step_dim = hidden_dim * slots_per_step
        if config.slot_embeddings == "learned":
            self.slots = nn.Parameter(SLOT_STD * torch.randn(self.num_slots, hidden_dim))
        else:
            self.register_buffer("slots", torch.zeros(self.num_slots, hidden_dim), persistent=False)

    @abstractmethod
    def loss(
        self,
        hidden: Float[Tensor, "batch slots dim"],
        target: Float[Tensor, "batch chunk action_dim"],
        pads: Bool[Tensor, "batch chunk"],
        generator: Generators,
    ) -> Float[Tensor, " batch"]:
        """One loss per sample, averaged over its unpadded steps; zero where a sample is all padding.

        Args:
            hidden: the backbone's reading at the action slots.
            target: normalised actions.
            pads: True at steps beyond the end of the episode.
            generator: CPU generator, or one per sample; heads without randomness leave it untouched.
        """

    @abstractmethod
    def sample(
        self,
        hidden: Float[Tensor, "batch slots dim"],
        generator: Generators,
        prefix: ChunkPrefix | None = None,
    ) -> Float[Tensor, "batch chunk action_dim"]:
        """A chunk of normalised float32 actions.

        Args:
            hidden: the backbone's reading at the action slots.
            generator: CPU generator, or one per sample. With one per sample a sample's actions do not depend
                on what else is in the batch; with a single one they depend on its index only.
            prefix: what is left of the chunk now being executed, to be continued without a jump.
        """

    def group_by_step(
        self, hidden: Float[Tensor, "batch slots dim"]
    ) -> Float[Tensor, "batch chunk step_dim"]:
        """Concatenates the slots of each control step, in the weights' dtype.

        Raises:
            ValueError: if the backbone gave another number of slots or another width.
        """
        expected = (self.num_slots, self.step_dim * self.chunk_length // self.num_slots)
        if tuple(hidden.shape[1:]) != expected:
            raise ValueError(
                f"the action head expects hidden states of shape (batch, {expected[0]}, {expected[1]}), "
                f"got {tuple(hidden.shape)}: ask the backbone for head.num_slots slots"
            )
        weights_dtype = next(self.parameters()).dtype
        return hidden.reshape(len(hidden), self.chunk_length, self.step_dim).to(weights_dtype)


def mean_over_steps(
    error: Float[Tensor, "batch chunk action_dim"], pads: Bool[Tensor, "batch chunk"]
) -> Float[Tensor, " batch"]:
    """The mean of `error` over each sample's unpadded steps; zero for a sample without any."""
    valid = (~pads).to(error.dtype)
    return (error.mean(dim=-1) * valid).sum(dim=1) / valid.sum(dim=1).clamp(min=1)
