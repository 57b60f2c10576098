"""Policies that know nothing: what any real one has to beat, and what the harness itself is tested with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

CHUNK = 8  # actions per decision


class HoldPolicy:
    """Commands zero motion: under relative control the robot stays where it is."""

    def __init__(self, size: int) -> None:
        self._chunk = np.zeros((CHUNK, size))

    def reset(self, seed: int) -> None:
        """There is nothing to forget."""

    def act(self, observation: Mapping[str, Any]) -> NDArray[np.floating]:  # noqa: ARG002
        """Return zeros, whatever is seen."""
        return self._chunk.copy()


class RandomPolicy:
    """Draws every action uniformly from the action space."""

    def __init__(self, space: gymnasium.spaces.Box) -> None:
        self._low, self._high = space.low.astype(float), space.high.astype(float)
        self._generator = np.random.default_rng(0)

    def reset(self, seed: int) -> None:
        """Restart the draws from the seed."""
        self._generator = np.random.default_rng(seed)

    def act(self, observation: Mapping[str, Any]) -> NDArray[np.floating]:  # noqa: ARG002
        """Return fresh draws, whatever is seen."""
        return self._generator.uniform(self._low, self._high, (CHUNK, *self._low.shape))


def _box(env: gymnasium.Env[Any, Any]) -> gymnasium.spaces.Box:
    if not isinstance(env.action_space, gymnasium.spaces.Box):
        raise TypeError(f"expected an environment with a Box of actions, got {env.action_space}")
    return env.action_space


@dataclass(frozen=True)
class MakeHold:
    """Policy factory of `HoldPolicy`."""

    needs_images: bool = False

    def __call__(self, env: gymnasium.Env[Any, Any]) -> HoldPolicy:
        """Build the policy for an environment's action space."""
        return HoldPolicy(_box(env).shape[-1])


@dataclass(frozen=True)
class MakeRandom:
    """Policy factory of `RandomPolicy`."""

    needs_images: bool = False

    def __call__(self, env: gymnasium.Env[Any, Any]) -> RandomPolicy:
        """Build the policy for an environment's action space."""
        return RandomPolicy(_box(env))
