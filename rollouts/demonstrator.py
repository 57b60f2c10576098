"""What acts while demonstrations are recorded: the expert, disturbed, or after a learner that got so far.

The expert's answer is the label; executed is the answer plus noise (Laskey et al., DART, arXiv 1703.09327).
A learner leads into states that it visits (Ross et al., DAgger, arXiv 1011.0686); at one of its decisions the
expert takes over to the end, and only that part is a demonstration. So every label is followed by what the
expert itself did next: its answers to the states of a learner's path, put in a row, are no chunk of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from vega_policy.rollouts.episode import Policy
from vega_policy.rollouts.stage import PolicyFactory

KICK_STEPS = 3
DISTURBANCE_STREAM = 2  # of random numbers, apart from the start motion's (`recording`) and the expert's
TRANSLATION, ROTATION = slice(0, 3), slice(3, 6)


@dataclass(frozen=True)
class Disturbance:
    """How what is executed differs from the labels.

    Attributes:
        action_noise: Standard deviation of the Gaussian noise added to each action dimension of the
            arm at every step, in action units; the last dimension, the gripper, has none.
        kicks: Probability at each step that a kick begins: for `KICK_STEPS` the hand is moved, or as often
            turned, at full stick in a random direction, whatever the label. Noise alone keeps close to the
            expert's own way.
        beta: With a learner: probability at each of its decisions that the expert takes over, in (0, 1].
        rescue: The same at its decisions in trouble, where that is more.
    """

    action_noise: float = 0.0
    kicks: float = 0.0
    beta: float = 1.0
    rescue: float = 0.0


class Expert(Policy, Protocol):
    """A policy that acts in any state, and can tell when another one needs its help."""

    def sees_trouble(self) -> bool:
        """Whether who acts now needs help; asked at each of its decisions."""
        ...


class ExpertFactory(PolicyFactory, Protocol):
    """Builds experts."""

    def __call__(self, env: gymnasium.Env[Any, Any]) -> Expert:
        """Build the expert that acts in `env`."""
        ...


class Demonstrator:
    """A policy for `RecordingEnv`: chunks of pairs (executed, label), shape (T, 2, action size).

    The learner's labels are NaN; its chunks are given whole, so that nothing is drawn while one is played.
    """

    def __init__(self, expert: Expert, learner: Policy | None, disturbance: Disturbance) -> None:
        self._expert, self._learner, self._disturbance = expert, learner, disturbance
        self._rng = np.random.default_rng(0)
        self._kick: list[tuple[slice, NDArray[np.floating]]] = []
        self._is_expert_acting = learner is None

    def reset(self, seed: int) -> None:
        """Forget the last episode."""
        self._rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(DISTURBANCE_STREAM,)))
        self._kick = []
        self._expert.reset(seed)
        self._is_expert_acting = self._learner is None
        if self._learner is not None:
            self._learner.reset(seed)

    def act(self, observation: Mapping[str, Any]) -> Float[np.ndarray, "steps 2 action_dim"]:
        """A chunk of the learner's, or one step of the expert's once it has taken over."""
        if self._learner is not None and not self._expert_takes_over():
            learned = np.asarray(self._learner.act(observation))
            return np.stack([learned, np.full_like(learned, np.nan)], axis=1)
        label = self._expert.act(observation)[0]
        return np.stack([self._disturbed(label), label])[None]

    def _expert_takes_over(self) -> bool:
        """Whether it acts from now on; once it does it goes on to the end."""
        if not self._is_expert_acting:
            self._is_expert_acting = bool(self._rng.random() < self._chance())
        return self._is_expert_acting

    def _chance(self) -> float:
        beta, rescue = self._disturbance.beta, self._disturbance.rescue
        return rescue if rescue > beta and self._expert.sees_trouble() else beta

    def _disturbed(self, action: NDArray[np.floating]) -> NDArray[np.floating]:
        noise = np.zeros_like(action)
        noise[:-1] = self._disturbance.action_noise * self._rng.standard_normal(len(action) - 1)
        disturbed = np.clip(action + noise, -1.0, 1.0)
        if not self._kick and self._disturbance.kicks > 0 and self._rng.random() < self._disturbance.kicks:
            self._kick = [self._drawn_kick()] * KICK_STEPS
        if self._kick:
            part, stick = self._kick.pop()
            disturbed[part] = stick
        return disturbed

    def _drawn_kick(self) -> tuple[slice, NDArray[np.floating]]:
        """Which part of an action it replaces, and by what: full stick, so the largest component is 1."""
        part = TRANSLATION if self._rng.random() < 0.5 else ROTATION
        direction = self._rng.standard_normal(3)
        return part, direction / np.abs(direction).max()


@dataclass(frozen=True)
class MakeDemonstrator:
    """Policy factory; the learner sees the same environment as the expert."""

    make_expert: ExpertFactory
    make_learner: PolicyFactory | None
    disturbance: Disturbance
    needs_images: bool = True

    def __call__(self, env: gymnasium.Env[Any, Any]) -> Demonstrator:
        """Build the demonstrator that acts in `env`."""
        learner = None if self.make_learner is None else self.make_learner(env)
        return Demonstrator(self.make_expert(env), learner, self.disturbance)
