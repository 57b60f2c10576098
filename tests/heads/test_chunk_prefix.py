"""Real-time chunking through LeRobot's own processor, for both heads."""

import dataclasses

import pytest
import torch
from lerobot.configs import RTCAttentionSchedule
from lerobot.policies.rtc.configuration_rtc import RTCConfig
from lerobot.policies.rtc.modeling_rtc import RTCProcessor

from vega_policy.heads.build import build_head
from vega_policy.heads.config import HeadConfig
from vega_policy.heads.prefix import ChunkPrefix

CHUNK, ACTION_DIM, HIDDEN_DIM = 8, 3, 8


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def make_head(name):
    config = HeadConfig(name=name, slots="per_step", width=16, num_attention_heads=2, num_euler_steps=10)
    head = build_head(config, HIDDEN_DIM, CHUNK, ACTION_DIM)
    generator = seeded(0)
    for parameter in head.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return head


def make_prefix(left=6, inference_delay=2, execution_horizon=5):
    processor = RTCProcessor(RTCConfig(prefix_attention_schedule=RTCAttentionSchedule.LINEAR))
    actions = torch.full((2, left, ACTION_DIM), 0.5)
    return ChunkPrefix(actions, inference_delay, processor, execution_horizon)


def hidden():
    return torch.randn(2, CHUNK, HIDDEN_DIM, generator=seeded(1))


@pytest.mark.parametrize("name", ["l1", "flow"])
def test_continues_the_previous_chunk_where_the_robot_cannot_react(name):
    head, prefix = make_head(name), make_prefix()
    free = head.sample(hidden(), seeded(2))
    continued = head.sample(hidden(), seeded(2), prefix)
    jump_free = (free[:, :2] - 0.5).abs().mean()
    jump_continued = (continued[:, :2] - 0.5).abs().mean()
    assert jump_continued < 0.2 * jump_free
    assert not continued.requires_grad


def test_regression_blend_is_the_processors_weights():
    prefix = make_prefix()
    blended = prefix.blend(torch.zeros(2, CHUNK, ACTION_DIM))
    # two steps of the leftover, then linearly to zero over the three steps up to the horizon
    expected = torch.tensor([1, 1, 0.75, 0.5, 0.25, 0, 0, 0]) * 0.5
    torch.testing.assert_close(blended, expected[None, :, None].expand_as(blended))


def test_a_short_leftover_shortens_the_horizon():
    blended = make_prefix(left=3, inference_delay=1).blend(torch.zeros(2, CHUNK, ACTION_DIM))
    assert blended[:, 0].eq(0.5).all()
    assert blended[:, 3:].eq(0).all()


def test_flow_without_weight_on_the_prefix_is_unguided():
    head = make_head("flow")
    only_the_delay_counts = RTCProcessor(RTCConfig(prefix_attention_schedule=RTCAttentionSchedule.ZEROS))
    nothing_counts = ChunkPrefix(make_prefix().actions, inference_delay=0, processor=only_the_delay_counts)
    torch.testing.assert_close(
        head.sample(hidden(), seeded(2), nothing_counts), head.sample(hidden(), seeded(2))
    )


@pytest.mark.parametrize("name", ["l1", "flow"])
def test_leftover_of_the_action_queue_needs_no_batch_axis(name):
    head, prefix = make_head(name), make_prefix()
    unbatched = dataclasses.replace(prefix, actions=prefix.actions[0])
    for_one = head.sample(hidden()[:1], seeded(2), unbatched)
    torch.testing.assert_close(
        for_one, head.sample(hidden()[:1], seeded(2), dataclasses.replace(prefix, actions=prefix.actions[:1]))
    )


def test_blend_does_not_write_into_the_chunk():
    chunk = torch.zeros(2, CHUNK, ACTION_DIM)
    make_prefix().blend(chunk)
    assert chunk.eq(0).all()
