"""The scripted expert: LIBERO's goal and simulator state in, policy actions out, closed loop at 20 Hz."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from vega_policy.envs.experts.goal import Subgoal, ordered
from vega_policy.envs.experts.joints import is_reached
from vega_policy.envs.experts.motion import OPEN, toward
from vega_policy.envs.experts.rehearsal import Rehearsal
from vega_policy.envs.experts.skills.articulate import Articulate
from vega_policy.envs.experts.skills.base import Skill
from vega_policy.envs.experts.skills.put import Put
from vega_policy.envs.experts.skills.slide import Slide, must_slide
from vega_policy.envs.experts.trouble import Onlooker
from vega_policy.envs.experts.world import World

UNDONE_STEPS = 10


class Expert:
    """A policy with privileged eyes. It may be asked for an action in any state of its environment."""

    def __init__(self, env: Any):
        """Attach to a `LiberoEnv` (possibly wrapped); call `reset` after each of its resets."""
        self._env = env
        self._rng = np.random.default_rng(0)
        self._world: World | None = None

    def reset(self, seed: int) -> None:
        """Forget the last episode; look at the scene anew at the next `act`."""
        self._rng = np.random.default_rng(seed)
        self._world = None

    def act(self, observation: Mapping[str, Any] | None = None) -> Float[np.ndarray, "1 7"]:
        """Return the next action, in [-1, 1]; the observation is not used."""
        del observation
        if self._world is None:
            self._begin()
        return np.clip(self._action(), -1.0, 1.0)[None]

    def sees_trouble(self) -> bool:
        """Whether who acts now needs help: shut fingers with nothing between them, or a hand that stays."""
        if self._world is None:
            self._begin()
        return self._onlooker.sees_trouble(must_hold=self._must_hold())

    def _begin(self) -> None:
        self._world = World(self._env.unwrapped.raw)
        self._onlooker = Onlooker(self._world)
        self._rehearsal = Rehearsal(self._world)
        self._goals = ordered(self._world.goal)
        self._skill: Skill | None = None
        self._pursued: Subgoal | None = None
        self._undone_steps = 0

    def _action(self) -> Float[np.ndarray, 7]:
        assert self._world is not None
        if self._skill is None or self._skill.done() or self._is_undone():
            self._skill = self._next_skill()
        if self._skill is None:
            return toward(self._world.hand, self._world.hand, OPEN)
        return self._skill.act()

    def _is_undone(self) -> bool:
        """Whether what was reached before has not held for a while: a bowl that jumps out of its drawer."""
        first = self._unmet()
        ahead = self._goals[: self._goals.index(self._pursued)] if self._pursued else []
        self._undone_steps = self._undone_steps + 1 if first in ahead else 0
        return self._undone_steps > UNDONE_STEPS

    def _unmet(self) -> Subgoal | None:
        assert self._world is not None
        return next((goal for goal in self._goals if not self._world.holds(goal)), None)

    def _next_skill(self) -> Skill | None:
        assert self._world is not None
        self._pursued, self._undone_steps = self._unmet(), 0
        if self._pursued is None:
            return None
        opening = self._opening_for(self._pursued)
        if opening is not None:
            return Articulate(self._world, self._rehearsal, opening, self._rng)
        return self._skill_for(self._pursued)

    def _opening_for(self, subgoal: Subgoal) -> Subgoal | None:
        """Return what must be opened before a thing can go in; None if nothing, or if it is open."""
        assert self._world is not None
        container = self._world.container_of(subgoal.target) if subgoal.relation == "in" else None
        if container is None:
            return None
        opening = Subgoal("open", container)
        return None if is_reached(self._world, opening) else opening

    def _must_hold(self) -> bool:
        """Whether the next thing to do is to carry something or to pull a handle."""
        assert self._world is not None
        goal = self._unmet()
        if goal is None:
            return False
        if goal.relation == "open" or self._opening_for(goal) is not None:
            return True
        return goal.places and not must_slide(self._world, goal)

    def _skill_for(self, subgoal: Subgoal) -> Skill:
        assert self._world is not None
        if subgoal.places and must_slide(self._world, subgoal):
            return Slide(self._world, subgoal)
        skill = Put if subgoal.places else Articulate
        return skill(self._world, self._rehearsal, subgoal, self._rng)
