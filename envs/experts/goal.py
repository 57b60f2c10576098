"""BDDL goals as ordered subgoals.

LIBERO's goals are conjunctions without an order, but their parts disturb each other: a drawer that is shut
first cannot be filled, a bowl moved after something was stacked in it drops the stack. `ordered` fixes that.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Relation = Literal["in", "on", "open", "close", "turnon", "turnoff"]
PLACEMENTS = ("in", "on")


@dataclass(frozen=True)
class Subgoal:
    """One predicate of a goal, e.g. `on(akita_black_bowl_1, plate_1)` or `close(microwave_1)`.

    Attributes:
        relation: The predicate's name in lower case.
        subject: The object moved, or the fixture (or its region) opened, closed or switched.
        target: Where the subject goes: an object or a region. None for predicates of one argument.
    """

    relation: Relation
    subject: str
    target: str | None = None

    @property
    def places(self) -> bool:
        """Whether this subgoal puts an object somewhere."""
        return self.relation in PLACEMENTS

    def as_state(self) -> list[str]:
        """Return the predicate as LIBERO's `_eval_predicate` takes it."""
        return [self.relation, self.subject] + ([self.target] if self.target is not None else [])


def parse(goal_state: Iterable[Sequence[str]]) -> list[Subgoal]:
    """Read the `goal_state` of LIBERO's parsed problem.

    Raises:
        ValueError: A predicate is unknown or has the wrong number of arguments.
    """
    return [_parse_one(list(state)) for state in goal_state]


def _parse_one(state: list[str]) -> Subgoal:
    relation = state[0].lower()
    if relation not in get_args(Relation):
        nearest = difflib.get_close_matches(relation, get_args(Relation), n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"expected a predicate of {', '.join(get_args(Relation))}, got {relation!r}{hint}")
    expected = 3 if relation in PLACEMENTS else 2
    if len(state) != expected:
        raise ValueError(f"predicate {relation!r} takes {expected - 1} names, got {state[1:]}")
    return Subgoal(relation, *state[1:])  # type: ignore[arg-type]


def ordered(subgoals: Iterable[Subgoal]) -> list[Subgoal]:
    """Sort subgoals so that no later one undoes or blocks an earlier one.

    Switch on, then close what nothing goes into, open, place (supports before what stands on them), close the
    filled, switch off. Subgoals of one rank keep their order.
    """
    goals = list(subgoals)
    return sorted(goals, key=lambda goal: (_rank(goal, goals), _stack_depth(goal, goals)))


def _rank(goal: Subgoal, goals: list[Subgoal]) -> int:
    filled = any(_shares_container(other.target, goal.subject) for other in goals if other.places)
    ranks = {"turnon": 0, "close": 4 if filled else 1, "open": 2, "in": 3, "on": 3, "turnoff": 5}
    return ranks[goal.relation]


def _shares_container(target: str | None, subject: str) -> bool:
    """Whether a placement target is the closed thing or, for a whole fixture, one of its regions."""
    return target is not None and (target == subject or target.startswith(subject + "_"))


def _stack_depth(goal: Subgoal, goals: list[Subgoal]) -> int:
    """Return how many placements of this goal must come before this one: those that move its target."""
    depth, target, seen = 0, goal.target, {goal.subject}
    while target is not None and target not in seen:
        seen.add(target)
        below = next((other for other in goals if other.places and other.subject == target), None)
        depth, target = (depth + 1, below.target) if below else (depth, None)
    return depth
