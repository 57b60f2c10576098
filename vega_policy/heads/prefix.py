"""Real-time chunking: continuing the chunk that a robot is still executing while the next one is computed.

The weights over time come from LeRobot's `RTCProcessor`. The flow head is guided by them during denoising
(Black et al. 2025, "Real-Time Execution of Action Chunking Flow Policies"); a regression head has nothing to
guide, so its chunk is blended with the leftover instead: equal to it while the robot cannot react yet
(`inference_delay` steps), then fading to the new chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from lerobot.policies.rtc.modeling_rtc import RTCProcessor


@dataclass(frozen=True)
class ChunkPrefix:
    """What is left of the previous chunk, in normalised actions.

    Attributes:
        actions: the actions not yet executed when the observation was taken, oldest first; LeRobot's queue
            gives them without a batch axis.
        inference_delay: control steps that will have been executed before the new chunk arrives.
        processor: LeRobot's processor; owns the schedule of the prefix weights and the guidance limit.
        execution_horizon: step at which the leftover stops to count; None takes the processor's setting.
    """

    actions: Float[Tensor, "*batch left action_dim"]
    inference_delay: int
    processor: RTCProcessor
    execution_horizon: int | None = None

    def guidance(self) -> dict[str, Any]:
        """The keyword arguments that make LeRobot's `euler_integrate` follow this prefix."""
        return {
            "rtc_processor": self.processor,
            "rtc_enabled": True,
            "prev_chunk_left_over": self.actions,
            "inference_delay": self.inference_delay,
            "execution_horizon": self.execution_horizon,
        }

    def blend(
        self, chunk: Float[Tensor, "batch chunk action_dim"]
    ) -> Float[Tensor, "batch chunk action_dim"]:
        """`chunk` drawn towards the leftover with the processor's prefix weights.

        Args:
            chunk: a freshly predicted chunk, at least as long as the leftover counts.
        """
        overlap = min(self.actions.shape[-2], chunk.shape[1])
        horizon = self.execution_horizon
        if horizon is None:
            horizon = self.processor.rtc_config.execution_horizon
        weights = self.processor.get_prefix_weights(
            self.inference_delay, min(horizon, overlap), chunk.shape[1]
        )
        weights = weights[:overlap, None].to(chunk)
        blended = chunk.clone()
        blended[:, :overlap] += weights * (self.actions[..., :overlap, :].to(chunk) - chunk[:, :overlap])
        return blended
