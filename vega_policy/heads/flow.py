"""Flow matching over a chunk: noise becomes actions along straight lines, integrated in a few Euler steps.

Time runs as in LeRobot's flow policies and its real-time chunking: **1 is noise, 0 is actions**, and the
velocity points from actions to noise. `FlowPath` is the only place where that is decided for training;
sampling uses LeRobot's own integrator.
"""

from dataclasses import dataclass
from typing import override

import torch
from jaxtyping import Bool, Float
from lerobot.policies.common.flow_matching import euler_integrate
from torch import Tensor

from vega_policy.heads.base import ActionHead, mean_over_steps
from vega_policy.heads.config import HeadConfig
from vega_policy.heads.noise import Generators, normal, uniform
from vega_policy.heads.prefix import ChunkPrefix
from vega_policy.heads.velocity import VelocityNetwork

# pi0 (Black et al. 2024) draws training times from Beta(1.5, 1) on (0.001, 1), which prefers the noisy end.
TIME_BETA = 1.5
EARLIEST_TIME = 1e-3


@dataclass(frozen=True)
class FlowPath:
    """A straight line between actions (time 0) and noise (time 1), and one point on it per sample."""

    actions: Float[Tensor, "batch chunk action_dim"]
    noise: Float[Tensor, "batch chunk action_dim"]
    time: Float[Tensor, " batch"]

    @classmethod
    def draw(cls, actions: Float[Tensor, "batch chunk action_dim"], generator: Generators) -> "FlowPath":
        """Draws noise and times for a batch of actions, on the CPU and then moved to the actions' device."""
        batch, chunk_length, action_dim = actions.shape
        # the cumulative distribution of Beta(a, 1) is t**a, so its inverse turns uniform numbers into times
        fraction = uniform(generator, batch) ** (1 / TIME_BETA)
        time = EARLIEST_TIME + (1 - EARLIEST_TIME) * fraction
        noise = normal(generator, (batch, chunk_length, action_dim))
        return cls(actions.float(), noise.to(actions.device), time.to(actions.device))

    @property
    def noisy(self) -> Float[Tensor, "batch chunk action_dim"]:
        """The points on the lines."""
        time = self.time[:, None, None]
        return time * self.noise + (1 - time) * self.actions

    @property
    def velocity(self) -> Float[Tensor, "batch chunk action_dim"]:
        """The derivative of `noisy` with respect to time."""
        return self.noise - self.actions


class FlowHead(ActionHead):
    """Denoises a whole chunk at once, conditioned on the backbone's features of each step."""

    def __init__(self, config: HeadConfig, hidden_dim: int, chunk_length: int, action_dim: int) -> None:
        super().__init__(config, hidden_dim, chunk_length, action_dim)
        self.num_euler_steps = config.num_euler_steps
        self.network = VelocityNetwork(
            action_dim,
            self.step_dim,
            chunk_length,
            config.width,
            config.num_blocks,
            config.num_attention_heads,
        )

    @override
    def loss(
        self,
        hidden: Float[Tensor, "batch slots dim"],
        target: Float[Tensor, "batch chunk action_dim"],
        pads: Bool[Tensor, "batch chunk"],
        generator: Generators,
    ) -> Float[Tensor, " batch"]:
        path = FlowPath.draw(target, generator)
        velocity = self.network(path.noisy, path.time, self.group_by_step(hidden))
        return mean_over_steps((velocity - path.velocity).square(), pads)

    @override
    @torch.no_grad()
    def sample(
        self,
        hidden: Float[Tensor, "batch slots dim"],
        generator: Generators,
        prefix: ChunkPrefix | None = None,
    ) -> Float[Tensor, "batch chunk action_dim"]:
        condition = self.group_by_step(hidden)
        noise = normal(generator, (len(hidden), self.chunk_length, self.action_dim)).to(hidden.device)
        guidance = {} if prefix is None else prefix.guidance()
        chunk = euler_integrate(
            lambda noisy, time: self.network(noisy, time, condition), noise, self.num_euler_steps, **guidance
        )
        return chunk.detach()  # guidance switches gradients back on inside LeRobot's processor
