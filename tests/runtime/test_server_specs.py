"""The contract: what is let in, and when robot and policy do not fit."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vega_policy.runtime.specs import (
    AHEAD,
    DELAY,
    Field,
    PolicySpec,
    SpecMismatchError,
    continuation,
    libero_spec,
    nest,
    paths,
)

SPEC = PolicySpec(
    {"a/b": Field("float", (2,)), "image": Field("uint8", (None, None, 3))}, Field("float", (None, 7)), 20
)


def observation(**changes: Any) -> dict[str, Any]:
    return {"a": {"b": np.zeros(2)}, "image": np.zeros((4, 5, 3), np.uint8)} | changes


def test_nested_and_flat_observations_mean_the_same() -> None:
    flat = dict(paths(observation()))
    assert set(flat) == {"a/b", "image"}
    assert SPEC.check(flat).keys() == SPEC.check(observation()).keys() == nest(flat).keys()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"a": {}}, "expected the observation to hold a/b"),
        ({"more": np.zeros(1)}, "got also more"),
        ({"a": {"b": np.zeros(3)}}, r"a/b to be float of shape \(2\), got float of shape \(3\)"),
        ({"a": {"b": np.zeros(2, np.int64)}}, "got ndarray of int64"),
        ({"a": {"b": [0.0, 0.0]}}, "got list"),
        ({"a": {"b": np.array([0, np.nan])}}, "finite"),
        ({"a": {"b": np.array([0, np.inf])}}, "finite"),
        ({"image": np.zeros((0, 5, 3), np.uint8)}, "image to be"),
        ({"image": np.zeros((9000, 1, 3), np.uint8)}, "image to be"),
        ({"image": np.zeros((4, 5, 3), np.float32)}, "image to be"),
        ({"image": "text"}, "got text"),
    ],
)
def test_anything_else_is_refused_with_its_name(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SPEC.check(observation(**changes))


def test_names_that_a_client_makes_up_are_not_repeated_at_length() -> None:
    with pytest.raises(ValueError, match="got also aaa") as caught:
        SPEC.check(observation(**{letter * 10_000: np.zeros(1) for letter in "abc"}))
    assert len(str(caught.value)) < 1000


def test_a_robot_selects_what_the_policy_reads() -> None:
    assert SPEC.select(observation(more=np.zeros(1))).keys() == SPEC.observation.keys()


def test_what_is_optional_is_checked_where_it_is() -> None:
    spec = replace(SPEC, optional=continuation(7))
    assert spec.check(observation()).keys() == SPEC.observation.keys() - {"a/b"} | {"a"}
    ahead = {AHEAD: np.zeros((3, 7)), DELAY: np.float32(2)}
    assert spec.select(observation(**ahead)).keys() == spec.known.keys()
    with pytest.raises(ValueError, match="expected all of ahead/actions, ahead/delay_steps or none"):
        spec.check(observation(**{AHEAD: np.zeros((3, 7))}))
    with pytest.raises(ValueError, match=r"ahead/actions to be float of shape \(any, 7\)"):
        spec.check(observation(**{AHEAD: np.zeros((3, 6))}))


def test_the_contract_survives_the_way() -> None:
    spec = replace(libero_spec(("image", "image2"), 7, 20.0, "r1"), optional=continuation(7))
    assert PolicySpec.from_message(json.loads(json.dumps(spec.to_message()))) == spec


@pytest.mark.parametrize("message", [{}, {"protocol": 2}, {"env": "libero"}])
def test_another_servers_hello_is_a_mismatch(message: dict[str, Any]) -> None:
    with pytest.raises(SpecMismatchError, match="protocol 1"):
        PolicySpec.from_message(message)


def test_a_robot_may_show_more_and_name_lengths_that_vary() -> None:
    shown = {**SPEC.observation, "image": Field("uint8", (256, 256, 3)), "more": Field("text")}
    SPEC.refuse_mismatch(replace(SPEC, observation=shown, revision="the robot's"))


def test_every_difference_is_named() -> None:
    robot = PolicySpec({"a/b": Field("float", (3,))}, Field("float", (None, 6)), 10)
    with pytest.raises(SpecMismatchError) as caught:
        SPEC.refuse_mismatch(robot)
    for difference in ("a/b", "image", "nothing", "action", "20 Hz", "10 Hz"):
        assert difference in str(caught.value)


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="float"):
        Field("object")
