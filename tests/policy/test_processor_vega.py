"""The pipelines: true quantiles, clipping, the gripper left alone, and the same again from a checkpoint."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from lerobot.policies.factory import make_pre_post_processors

from vega_policy.configuration_vega import VegaConfig, libero_features
from vega_policy.processor_vega import make_vega_pre_post_processors

ACTION_LOW, ACTION_HIGH = -0.5, 0.25


@pytest.fixture
def config() -> VegaConfig:
    inputs, outputs = libero_features(image_size_px=8)
    return VegaConfig(device="cpu", input_features=inputs, output_features=outputs)


@pytest.fixture
def stats() -> dict[str, dict[str, Any]]:
    return {
        "action": {"q01": torch.full((7,), ACTION_LOW), "q99": torch.full((7,), ACTION_HIGH)},
        "observation.state": {"q01": torch.zeros(8), "q99": torch.full((8,), 2.0)},
    }


def batch(state: float = 1.0) -> dict[str, Any]:
    picture = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return {
        "observation.images.image": picture,
        "observation.images.image2": picture,
        "observation.state": torch.full((1, 8), state),
        "action": torch.full((1, 8, 7), ACTION_HIGH),
        "task": ["put the bowl on the plate"],
    }


def test_states_and_actions_are_scaled_and_clipped(config: VegaConfig, stats: dict[str, Any]) -> None:
    before, _ = make_vega_pre_post_processors(config, stats)
    processed = before(batch(state=1.0))
    torch.testing.assert_close(processed["observation.state"], torch.zeros(1, 8))
    torch.testing.assert_close(processed["action"][..., :6], torch.ones(1, 8, 6))
    assert before(batch(state=50.0))["observation.state"].max() == 1


def test_images_and_task_pass_untouched(config: VegaConfig, stats: dict[str, Any]) -> None:
    before, _ = make_vega_pre_post_processors(config, stats)
    raw = batch()
    processed = before(raw)
    assert torch.equal(processed["observation.images.image"], raw["observation.images.image"])
    assert processed["task"] == raw["task"]


def test_the_gripper_passes_unscaled_both_ways(config: VegaConfig, stats: dict[str, Any]) -> None:
    before, after = make_vega_pre_post_processors(config, stats)
    assert before(batch())["action"][0, 0, 6] == ACTION_HIGH
    predicted = torch.full((1, 8, 7), 1.0)
    predicted[..., 6] = -1.0
    action = after(predicted)
    torch.testing.assert_close(action[..., :6], torch.full((1, 8, 6), ACTION_HIGH))
    torch.testing.assert_close(action[..., 6], torch.full((1, 8), -1.0))


def test_a_dimension_that_is_no_sign_is_not_left_unscaled(config: VegaConfig, stats: dict[str, Any]) -> None:
    stats["action"] |= {"min": torch.zeros(7), "max": torch.full((7,), 100.0)}
    with pytest.raises(ValueError, match=r"the data's max is \[100\.0\] in \[6\]"):
        make_vega_pre_post_processors(config, stats)
    config.unnormalised_action_dims = ()
    make_vega_pre_post_processors(config, stats)


def test_predictions_are_clipped_before_they_are_unscaled(config: VegaConfig, stats: dict[str, Any]) -> None:
    _, after = make_vega_pre_post_processors(config, stats)
    action = after(torch.full((1, 8, 7), 30.0))
    torch.testing.assert_close(action[..., :6], torch.full((1, 8, 6), ACTION_HIGH))


def test_frames_on_disk_give_the_true_quantiles(
    config: VegaConfig, stats: dict[str, Any], tmp_path: Path
) -> None:
    frames = np.random.default_rng(0).uniform(-1, 1, (400, 7)).astype(np.float32)
    (tmp_path / "data").mkdir()
    parquet.write_table(pa.table({"action": list(frames)}), tmp_path / "data" / "file-000.parquet")
    meta = SimpleNamespace(root=tmp_path, features={"action": {}})
    _, after = make_vega_pre_post_processors(config, stats, meta)
    expected = torch.from_numpy(np.quantile(frames, 0.99, axis=0).astype(np.float32))
    torch.testing.assert_close(after(torch.ones(1, 7))[0, :6], expected[:6])


def test_a_checkpoint_rebuilds_the_same_pipelines(
    config: VegaConfig, stats: dict[str, Any], tmp_path: Path
) -> None:
    before, after = make_vega_pre_post_processors(config, stats)
    before.save_pretrained(tmp_path)
    after.save_pretrained(tmp_path)
    loaded_before, loaded_after = make_pre_post_processors(config, pretrained_path=str(tmp_path))
    raw, predicted = batch(state=0.3), torch.rand(1, 8, 7)
    for key in ("observation.state", "action"):
        assert torch.equal(loaded_before(batch(state=0.3))[key], before(raw)[key])
    assert torch.equal(loaded_after(predicted), after(predicted))
