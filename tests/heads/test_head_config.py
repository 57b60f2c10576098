"""Head settings: refused early, with the nearest known name."""

import draccus
import pytest

from vega_policy.heads.build import build_head
from vega_policy.heads.config import HeadConfig
from vega_policy.heads.flow import FlowHead
from vega_policy.heads.l1 import L1Head


@pytest.mark.parametrize(("name", "head_class"), [("l1", L1Head), ("flow", FlowHead)])
def test_names_build_their_heads(name, head_class):
    head = build_head(HeadConfig(name=name, width=16), hidden_dim=8, chunk_length=3, action_dim=2)
    assert type(head) is head_class


def test_unknown_head_names_the_nearest():
    with pytest.raises(ValueError, match=r"unknown action head 'flwo'.*did you mean 'flow'"):
        HeadConfig(name="flwo")


def test_unknown_slot_layout_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'per_step'"):
        HeadConfig(slots="step")


@pytest.mark.parametrize("field", ["width", "num_blocks", "num_attention_heads", "num_euler_steps"])
def test_sizes_are_positive(field):
    with pytest.raises(ValueError, match=field):
        HeadConfig(**{field: 0})


def test_flow_width_divides_into_heads():
    with pytest.raises(ValueError, match="multiple of"):
        HeadConfig(name="flow", width=20, num_attention_heads=8)


def test_draccus_reads_what_it_wrote():
    config = HeadConfig(name="flow", slots="per_step", width=64, num_euler_steps=4)
    assert draccus.decode(HeadConfig, draccus.encode(config)) == config


@pytest.mark.parametrize(("slots", "expected"), [("per_dimension", 6), ("per_step", 3)])
def test_number_of_slots(slots, expected):
    head = build_head(HeadConfig(slots=slots, width=16), hidden_dim=8, chunk_length=3, action_dim=2)
    assert head.num_slots == expected


def test_unknown_slot_embedding_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'learned'"):
        HeadConfig(slot_embeddings="learnt")


def test_slots_are_empty_and_not_saved_or_learned_and_saved():
    zero, learned = (
        build_head(HeadConfig(slot_embeddings=kind, width=16), hidden_dim=8, chunk_length=3, action_dim=2)
        for kind in ("zero", "learned")
    )
    assert zero.slots.shape == learned.slots.shape == (6, 8)
    assert not zero.slots.any()
    assert "slots" not in zero.state_dict()
    assert "slots" in dict(learned.named_parameters())
    assert len(learned.slots.unique(dim=0)) == 6
