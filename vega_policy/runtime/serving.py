"""A trained policy as the server wants it: its contract, and whether robots can share a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from lerobot.utils.constants import OBS_IMAGES

from vega_policy.configuration_vega import VegaConfig
from vega_policy.runtime.acting import ActingPolicy
from vega_policy.runtime.batching import BatchedPolicy, Chunk, OneByOne
from vega_policy.runtime.specs import PolicySpec, continuation, libero_spec, paths


def batched(acting: ActingPolicy, max_batch: int) -> BatchedPolicy:
    """Robots share a batch if actions follow from the observation alone; else they take turns."""
    return Together(acting, max_batch) if is_memoryless(acting) else OneByOne(acting.fork)


def is_memoryless(acting: ActingPolicy) -> bool:
    """Known of VEGA only: one frame per clip, and no noise that depends on the decision."""
    config = acting.config
    return isinstance(config, VegaConfig) and config.simulator.clip_length == 1 and config.head.name == "l1"


def spec_of(acting: ActingPolicy, control_hz: float, revision: str) -> PolicySpec:
    """The contract of a policy for LIBERO's observations."""
    prefix = f"{OBS_IMAGES}."
    config = acting.config
    cameras = tuple(key.removeprefix(prefix) for key in config.image_features if key.startswith(prefix))
    assert config.action_feature is not None
    (action_dim,) = config.action_feature.shape
    spec = libero_spec(cameras, action_dim, control_hz, revision)
    return replace(spec, optional=continuation(action_dim) if acting.continues_chunks else {})


class Together:
    """A memoryless policy, asked for all robots at once."""

    def __init__(self, acting: ActingPolicy, max_batch: int) -> None:
        self._acting = acting
        self.max_batch = max_batch

    def reset(self, session: int, seed: int) -> None:
        """There is nothing to forget."""

    def forget(self, session: int) -> None:
        """There is nothing to forget."""

    def infer(self, sessions: Sequence[int], observations: Sequence[Mapping[str, Any]]) -> list[Chunk]:  # noqa: ARG002
        """One pass for all whose pictures have one size; the reset lets each be of another size of batch."""
        chunks: list[Chunk | None] = [None] * len(observations)
        for alike in _alike(observations):
            self._acting.reset(seed=0)
            together = self._acting.act_together([observations[index] for index in alike])
            for index, chunk in zip(alike, together, strict=True):
                chunks[index] = chunk
        return [chunk for chunk in chunks if chunk is not None]


def _alike(observations: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Which observations can be stacked: indices, by the shapes of all parts."""
    groups: dict[tuple[tuple[str, tuple[int, ...]], ...], list[int]] = {}
    for index, observation in enumerate(observations):
        shapes = tuple(sorted((path, np.shape(value)) for path, value in paths(observation)))
        groups.setdefault(shapes, []).append(index)
    return list(groups.values())
