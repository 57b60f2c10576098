"""What acts while demonstrations are recorded: the expert, disturbed or in turn with a learner.

The expert is asked in every state that is visited, and its clean answer is the label. What is executed may be
something else: the answer plus noise (Laskey et al., DART, arXiv 1703.09327), or a learner's actions (Ross et
al., DAgger, arXiv 1011.0686), so that the data show how to come back from states an expert would not enter.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from vega_policy.rollouts.episode import Policy
from vega_policy.rollouts.stage import PolicyFactory


@dataclass(frozen=True)
class Disturbance:
    """How what is executed differs from the labels.

    Attributes:
        action_noise: Standard deviation of the Gaussian noise added to each action dimension of the
            arm at every step, in action units; the last dimension, the gripper, has none.
        beta: With a learner: probability that the expert acts until the next decision, in [0, 1].
    """

    action_noise: float = 0.0
    beta: float = 1.0


class Demonstrator:
    """A policy for `RecordingEnv`: each action is a pair (executed, label), shape (1, 2, action size)."""

    def __init__(self, expert: Policy, learner: Policy | None, disturbance: Disturbance) -> None:
        self._expert, self._learner, self._disturbance = expert, learner, disturbance
        self._rng = np.random.default_rng(0)
        self._pending: deque[NDArray[np.floating] | None] = deque()

    def reset(self, seed: int) -> None:
        """Forget the last episode."""
        self._rng = np.random.default_rng(seed)
        self._pending.clear()
        self._expert.reset(seed)
        if self._learner is not None:
            self._learner.reset(seed)

    def act(self, observation: Mapping[str, Any]) -> Float[np.ndarray, "1 2 action_dim"]:
        """One step: the learner's chunks are played to their end, but the expert labels every state."""
        label = self._expert.act(observation)[0]
        executed = self._learned_action(observation)
        executed = label if executed is None else executed
        return np.stack([self._disturbed(executed), label])[None]

    def _learned_action(self, observation: Mapping[str, Any]) -> NDArray[np.floating] | None:
        """The learner's action; None when it is the expert's turn.

        The learner decides also where the expert then acts, so that what it remembers of the episode is right
        and the expert's turn is as long as its own.
        """
        if self._learner is None:
            return None
        if not self._pending:
            chunk = self._learner.act(observation)
            experts_turn = self._rng.random() < self._disturbance.beta
            self._pending.extend([None] * len(chunk) if experts_turn else chunk)
        return self._pending.popleft()

    def _disturbed(self, action: NDArray[np.floating]) -> NDArray[np.floating]:
        noise = np.zeros_like(action)
        noise[:-1] = self._disturbance.action_noise * self._rng.standard_normal(len(action) - 1)
        return np.clip(action + noise, -1.0, 1.0)


@dataclass(frozen=True)
class MakeDemonstrator:
    """Policy factory; the learner sees the same environment as the expert."""

    make_expert: PolicyFactory
    make_learner: PolicyFactory | None
    disturbance: Disturbance
    needs_images: bool = True

    def __call__(self, env: gymnasium.Env[Any, Any]) -> Demonstrator:
        """Build the demonstrator that acts in `env`."""
        learner = None if self.make_learner is None else self.make_learner(env)
        return Demonstrator(self.make_expert(env), learner, self.disturbance)
