"""The policy as a whole: its loss, its chunks, its memory, its cameras, and what learns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.rtc.configuration_rtc import RTCConfig

from vega_policy.configuration_vega import VegaConfig
from vega_policy.fusion_config import FusionConfig
from vega_policy.heads.config import HeadConfig
from vega_policy.modeling_vega import VegaPolicy
from vega_policy.simulators.config import tiny_wan_config

MakeBatch = Callable[..., dict[str, Any]]
MakePolicy = Callable[..., VegaPolicy]


def test_the_loss_is_the_mean_of_the_samples(policy: VegaPolicy, make_batch: MakeBatch) -> None:
    batch = make_batch()
    mean, log = policy(batch)
    each, _ = policy(batch, reduction="none")
    assert each.shape == (2,)
    torch.testing.assert_close(mean, each.mean())
    assert log["action_loss"] == pytest.approx(mean.item())
    assert 0 < log["gate/image"] < 1
    assert 0 < log["gate/image2"] < 1


def test_padded_steps_do_not_count(policy: VegaPolicy, make_batch: MakeBatch) -> None:
    batch = make_batch()
    batch["action_is_pad"][:, 3:] = True
    before, _ = policy(batch)
    batch["action"][:, 3:] += 5
    assert torch.equal(policy(batch)[0], before)
    batch["action"][:, :3] += 5
    assert not torch.equal(policy(batch)[0], before)


def test_only_the_simulator_is_frozen_and_stays_in_evaluation_mode(make_policy: MakePolicy) -> None:
    policy = make_policy()
    policy.train()
    assert policy.backbone.training
    assert not policy.simulator.training
    learning = {id(parameter) for parameter in policy.get_optim_params()}
    assert not learning & {id(parameter) for parameter in policy.simulator.parameters()}
    assert learning >= {id(parameter) for parameter in policy.head.parameters()}


def test_gradients_reach_every_part_that_learns(make_policy: MakePolicy, make_batch: MakeBatch) -> None:
    policy = make_policy(fusion=FusionConfig(residual_scale=0.5))
    policy(make_batch())[0].backward()
    without = [name for name, p in policy.named_parameters() if p.requires_grad and p.grad is None]
    assert not [name for name in without if "fusion" in name or name.startswith(("head", "proprio"))]


def test_lerobots_peft_trains_the_fusion_that_is_used(make_policy: MakePolicy, make_batch: MakeBatch) -> None:
    policy = make_policy(fusion=FusionConfig(name="gated"))
    policy.config.pretrained_path = Path("somewhere")
    batch = make_batch()
    before = policy(batch)[0]
    wrapped = policy.wrap_with_peft(peft_cli_overrides={"method_type": "LORA", "r": 2})
    torch.testing.assert_close(wrapped(batch)[0], before)
    wrapped(batch)[0].backward()
    learning = {name: p for name, p in wrapped.named_parameters() if p.requires_grad}
    parts = ("lora_", "fusion.modules_to_save", "head.modules_to_save", "proprio.modules_to_save")
    assert all(any(part in name for name in learning) for part in parts)
    without = [name for name, p in learning.items() if p.grad is None]
    assert all("lm_head" in name for name in without), "peft takes it for a head; nothing reads it"


def test_processes_of_one_run_draw_noise_of_their_own(
    make_policy: MakePolicy, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy(head=HeadConfig(name="flow", width=32, slots="per_step")).train()

    def loss(rank: int | None) -> float:
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: rank is not None)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
        torch.manual_seed(3)
        return float(policy(make_batch())[0])

    assert loss(None) == loss(0) == loss(0)
    assert loss(0) != loss(1)


def test_held_out_data_meet_the_same_noise_and_draw_none(
    make_policy: MakePolicy, make_batch: MakeBatch
) -> None:
    policy = make_policy(head=HeadConfig(name="flow", width=32, slots="per_step"))
    before = torch.get_rng_state()
    assert float(policy(make_batch())[0]) == float(policy(make_batch())[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_that_learn_are_not_rounded(make_policy: MakePolicy) -> None:
    policy = make_policy()
    policy.backbone.to(torch.bfloat16)
    with pytest.raises(ValueError, match=r"learn in float32.*policy\.backbone\.dtype=float32"):
        policy.get_optim_params()
    for weight in policy.backbone.parameters():
        weight.requires_grad_(False)
    assert policy.get_optim_params()


def test_one_batch_can_be_overfitted(make_policy: MakePolicy, make_batch: MakeBatch) -> None:
    policy = make_policy().train()
    optimizer = torch.optim.AdamW(policy.get_optim_params(), lr=1e-3)
    batch, first, last = make_batch(size=1), None, None
    for _ in range(300):
        loss, _ = policy(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first, last = first or loss.item(), loss.item()
    assert last < 0.3 * first


@pytest.mark.parametrize("head", ["l1", "flow"])
def test_the_same_observation_gives_the_same_chunk(
    head: str, make_policy: MakePolicy, make_batch: MakeBatch
) -> None:
    policy = make_policy(head=HeadConfig(name=head, width=32, slots="per_step"))
    first = policy.predict_action_chunk(make_batch())
    assert first.shape == (2, 8, 7)
    torch.manual_seed(1234)
    policy.reset()
    assert torch.equal(policy.predict_action_chunk(make_batch()), first)


@pytest.mark.parametrize("head", ["l1", "flow"])
def test_a_sample_does_not_depend_on_its_batch(
    head: str, make_policy: MakePolicy, make_batch: MakeBatch
) -> None:
    policy = make_policy(head=HeadConfig(name=head, width=32, slots="per_step"))
    together = policy.predict_action_chunk(make_batch(size=3))
    policy.reset()
    alone = {key: value[:1] for key, value in make_batch(size=3).items()}
    torch.testing.assert_close(policy.predict_action_chunk(alone), together[:1], atol=1e-5, rtol=1e-5)


def test_select_action_plays_the_chunk_and_then_asks_again(policy: VegaPolicy, make_batch: MakeBatch) -> None:
    policy.reset()
    chunk = policy.predict_action_chunk(make_batch())
    policy.reset()
    played = torch.stack([policy.select_action(make_batch()) for _ in range(8)], dim=1)
    assert torch.equal(played, chunk)
    later = policy.select_action(make_batch(seed=7))
    assert not torch.equal(later, chunk[:, 0])


def test_a_clip_is_filled_by_the_frames_seen_so_far(make_policy: MakePolicy, make_batch: MakeBatch) -> None:
    simulator = tiny_wan_config(image_size_px=64, block=1, clip_length=5)
    simulator.architecture["transformer"]["num_layers"] = 2
    policy = make_policy(simulator=simulator, fusion=FusionConfig(residual_scale=1.0))
    assert policy.config.observation_delta_indices == [-32, -24, -16, -8, 0]
    seen = [make_batch(size=1, seed=seed) for seed in range(5)]
    for batch in seen:
        live = policy.predict_action_chunk(batch)
    clip = {key: torch.stack([batch[key] for batch in seen], dim=1) for key in policy.config.cameras}
    at_once = policy.read(seen[-1], policy.cameras.clips({**seen[-1], **clip}))
    torch.testing.assert_close(policy.head.sample(at_once.hidden, torch.Generator()), live)


def test_a_missing_camera_raises_unless_configured(make_policy: MakePolicy, make_batch: MakeBatch) -> None:
    batch = make_batch()
    del batch["observation.images.image2"]
    with pytest.raises(ValueError, match=r"add observation\.images\.image2"):
        make_policy()(batch)
    loss, _ = make_policy(missing_camera="black")(batch)
    assert torch.isfinite(loss)


def test_raw_pictures_are_refused(policy: VegaPolicy, make_batch: MakeBatch) -> None:
    batch = make_batch()
    batch["observation.images.image"] = (batch["observation.images.image"] * 255).to(torch.uint8)
    with pytest.raises(ValueError, match="pre-processor"):
        policy(batch)


def test_cameras_of_different_shapes_are_read(policy: VegaPolicy, make_batch: MakeBatch) -> None:
    batch = make_batch()
    batch["observation.images.image2"] = torch.rand(2, 3, 48, 64)
    loss, _ = policy(batch)
    assert torch.isfinite(loss)


def test_one_camera_and_no_proprioception(make_policy: MakePolicy, make_batch: MakeBatch) -> None:
    policy = make_policy(cameras=("observation.images.image",), use_proprioception=False)
    before = policy.predict_action_chunk(make_batch())
    batch = make_batch()
    batch["observation.state"] += 1
    policy.reset()
    assert torch.equal(policy.predict_action_chunk(batch), before)


def test_without_fusion_the_simulator_is_not_run(make_policy: MakePolicy, make_batch: MakeBatch) -> None:
    policy = make_policy(fusion=FusionConfig(name="none"))
    policy.simulator.register_forward_hook(lambda *_: pytest.fail("the simulator ran"))
    policy.predict_action_chunk(make_batch())


def test_only_the_flow_head_supports_real_time_chunking(
    make_policy: MakePolicy, make_batch: MakeBatch
) -> None:
    flow = make_policy(head=HeadConfig(name="flow", width=32, slots="per_step"), rtc_config=RTCConfig())
    assert flow.supports_rtc()
    assert not make_policy().supports_rtc()
    left_over = torch.ones(1, 6, 7)
    guided = flow.predict_action_chunk(make_batch(size=1), inference_delay=2, prev_chunk_left_over=left_over)
    flow.reset()
    free = flow.predict_action_chunk(make_batch(size=1))
    near = (guided - 1)[:, :2].abs().mean()
    assert near < (free - 1)[:, :2].abs().mean()
    assert flow.config.rtc_config is not None
    flow.config.rtc_config.enabled = False
    flow.init_rtc_processor()
    flow.reset()
    alone = flow.predict_action_chunk(make_batch(size=1), inference_delay=2, prev_chunk_left_over=left_over)
    assert torch.equal(alone, free)


def test_features_the_data_lacks_are_named(config: VegaConfig) -> None:
    config.input_features = {"observation.state": PolicyFeature(FeatureType.STATE, (8,))}
    with pytest.raises(ValueError, match=r"expected the camera 'observation\.images\.image'"):
        VegaPolicy(config)


def test_identity_dimensions_that_the_action_lacks_are_named(config: VegaConfig) -> None:
    config.unnormalised_action_dims = (6, 7)
    with pytest.raises(ValueError, match=r"has \[7\], the action has dimensions 0 to 6"):
        VegaPolicy(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"missing_camera": "blak"}, "did you mean 'black'"),
        ({"dtype": "bf16"}, "bfloat16"),
        ({"n_action_steps": 9}, "expected 1 to policy.chunk_size"),
        ({"cameras": ()}, "at least one camera"),
        (
            {"normalization_mapping": {"STATE": NormalizationMode.MEAN_STD}},
            "normalization_mapping.STATE is .*MEAN_STD.*, expected QUANTILES",
        ),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VegaConfig(device="cpu", **changes)
