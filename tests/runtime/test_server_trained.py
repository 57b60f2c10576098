"""A VEGA policy as the server takes it: sharing a batch, or sharing weights, changes nobody's actions."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.policies.rtc.configuration_rtc import RTCConfig

from vega_policy.configuration_vega import VegaConfig
from vega_policy.heads.config import HeadConfig
from vega_policy.runtime.acting import ActingPolicy
from vega_policy.runtime.batching import OneByOne
from vega_policy.runtime.serving import Together, batched, spec_of
from vega_policy.runtime.specs import AHEAD, DELAY


def observation(seed: int) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    pixels = {name: generator.integers(0, 256, (64, 64, 3), dtype=np.uint8) for name in ("image", "image2")}
    state = {"eef": {"pos": generator.normal(size=3), "quat": np.array([0.0, 0, 0, 1])}}
    return {
        "pixels": pixels,
        "robot_state": state | {"gripper": {"qpos": generator.normal(size=2)}},
        "task_description": ("open the drawer", "put the bowl on the plate")[seed % 2],
    }


@pytest.fixture(scope="module")
def memoryless() -> ActingPolicy:
    return ActingPolicy.untrained(VegaConfig(device="cpu"))


def test_robots_in_one_batch_get_what_they_would_get_alone(memoryless: ActingPolicy) -> None:
    policy = batched(memoryless, max_batch=4)
    assert isinstance(policy, Together)
    observations = [observation(seed) for seed in range(3)]
    shared = policy.infer([0, 1, 2], observations)
    for session, (seen, chunk) in enumerate(zip(observations, shared, strict=True)):
        np.testing.assert_allclose(chunk, policy.infer([session], [seen])[0], atol=1e-4)
    assert np.abs(shared[0] - shared[1]).max() > 1e-3, "the robots see different things"


class Counted:
    """Stands in for a policy; notes how many observations it was asked about at once."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def reset(self, seed: int) -> None: ...

    def act_together(self, observations: list[dict[str, Any]]) -> np.ndarray:
        self.asked.append(len(observations))
        pictures = np.stack([seen["pixels"]["image"] for seen in observations])
        return np.full((len(observations), 2, 7), pictures.shape[1])


def test_robots_with_pictures_of_one_size_share_a_pass() -> None:
    acting = Counted()
    small = {**observation(1), "pixels": {"image": np.zeros((32, 32, 3), np.uint8)}}
    large = {**observation(1), "pixels": {"image": np.zeros((64, 64, 3), np.uint8)}}
    chunks = Together(acting, max_batch=4).infer([0, 1, 2], [small, large, small])  # type: ignore[arg-type]
    assert [chunk[0, 0] for chunk in chunks] == [32, 64, 32]
    assert acting.asked == [2, 1]


def test_an_untrained_policy_is_the_same_in_every_process() -> None:
    first, second = (ActingPolicy.untrained(VegaConfig(device="cpu"))._policy.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_contract_names_what_the_policy_reads(memoryless: ActingPolicy) -> None:
    spec = spec_of(memoryless, 20.0, "r1")
    assert spec.select(observation(0)).keys() == spec.observation.keys()
    spec.action.check("actions", memoryless.act(spec.check(observation(0))))


def test_who_plays_chunks_by_the_clock_gets_all_their_rows() -> None:
    acting = ActingPolicy.untrained(VegaConfig(device="cpu", chunk_size=6, n_action_steps=2))
    harness, client = acting.act(observation(0)), acting.with_whole_chunks().fork().act(observation(0))
    assert (len(harness), len(client)) == (2, 6)
    np.testing.assert_array_equal(harness, client[:2])


def test_robots_with_a_memory_each_have_their_own() -> None:
    head = HeadConfig(name="flow", slots="per_step", width=32, num_blocks=1, num_euler_steps=2)
    policy = batched(ActingPolicy.untrained(replace(VegaConfig(device="cpu"), head=head)), max_batch=4)
    assert isinstance(policy, OneByOne)
    for session in (0, 1):
        policy.reset(session, seed=5)
    seen = observation(0)
    first, second = (policy.infer([0], [seen])[0] for _ in range(2))
    assert np.abs(first - second).max() > 1e-3, "the noise goes on with the episode"
    np.testing.assert_array_equal(policy.infer([1], [seen])[0], first)


def test_a_chunk_goes_on_from_what_is_ahead_of_the_robot() -> None:
    head = HeadConfig(name="flow", slots="per_step", width=32, num_blocks=1, num_euler_steps=10)
    rtc = RTCConfig(execution_horizon=8, max_guidance_weight=100.0)
    acting = ActingPolicy.untrained(VegaConfig(device="cpu", head=head, rtc_config=rtc))
    ahead = np.full((6, 7), 0.5, np.float32)
    spec, policy = spec_of(acting, 20.0, "r1"), batched(acting, max_batch=4)
    seen = observation(0)
    more = spec.check({**seen, AHEAD: ahead, DELAY: np.float32(3)})

    def distance(asked: dict[str, Any]) -> float:
        policy.reset(0, seed=5)
        return float(np.abs(policy.infer([0], [asked])[0][:3, :6] - 0.5).mean())

    assert distance(more) < 0.5 * distance(seen)


def test_a_policy_that_cannot_go_on_is_not_told_what_is_ahead(memoryless: ActingPolicy) -> None:
    told = {**observation(0), AHEAD: np.zeros((6, 7), np.float32), DELAY: np.float32(3)}
    spec = spec_of(memoryless, 20.0, "r1")
    assert spec.select(told).keys() == spec.observation.keys()
    with pytest.raises(ValueError, match="got also ahead/actions"):
        spec.check(told)
