"""Goals become subgoals in an order in which none undoes another."""

import pytest

from vega_policy.envs.experts.goal import Subgoal, ordered, parse


def test_predicates_are_read_in_any_case() -> None:
    assert parse([["On", "bowl", "plate"], ["close", "drawer"]]) == [
        Subgoal("on", "bowl", "plate"),
        Subgoal("close", "drawer"),
    ]


def test_an_unknown_predicate_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'open'"):
        parse([["opne", "drawer"]])
    with pytest.raises(ValueError, match="takes 2 names"):
        parse([["on", "bowl"]])


def test_a_drawer_is_filled_before_it_is_closed() -> None:
    goals = parse([["close", "cabinet_bottom_region"], ["in", "bowl", "cabinet_bottom_region"]])
    assert [goal.relation for goal in ordered(goals)] == ["in", "close"]


def test_supports_are_placed_before_what_stands_on_them() -> None:
    goals = parse([["on", "pot", "plate"], ["on", "plate", "tray"]])
    assert [goal.subject for goal in ordered(goals)] == ["plate", "pot"]


def test_switches_come_first_and_last() -> None:
    goals = parse([["turnoff", "lamp"], ["on", "pot", "stove"], ["turnon", "stove"]])
    assert [goal.relation for goal in ordered(goals)] == ["turnon", "on", "turnoff"]
