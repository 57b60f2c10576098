"""Checkpoints: equal after loading, strict about every key, and without frozen Hub weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lerobot.configs.policies import PreTrainedConfig
from safetensors.torch import load_file, save_file

from vega_policy.checkpoint import external_names
from vega_policy.modeling_vega import VegaPolicy

MakeBatch = Callable[..., dict[str, Any]]


@pytest.fixture
def folder(policy: VegaPolicy, tmp_path: Path) -> Path:
    policy.save_pretrained(tmp_path)
    return tmp_path


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors")


def test_a_loaded_policy_acts_the_same(folder: Path, policy: VegaPolicy, make_batch: MakeBatch) -> None:
    loaded = VegaPolicy.from_pretrained(folder)
    policy.reset()
    assert torch.equal(loaded.predict_action_chunk(make_batch()), policy.predict_action_chunk(make_batch()))


def test_the_configuration_comes_back_whole(folder: Path, policy: VegaPolicy) -> None:
    assert PreTrainedConfig.from_pretrained(folder) == policy.config


def test_a_missing_key_is_named(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.pop("head.model.fc1.bias"))
    with pytest.raises(ValueError, match=r"1 missing, first head\.model\.fc1\.bias"):
        VegaPolicy.from_pretrained(folder)


def test_an_unexpected_key_is_named(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.update({"head.extra": torch.zeros(1)}))
    with pytest.raises(ValueError, match=r"1 unexpected, first head\.extra"):
        VegaPolicy.from_pretrained(folder)


def test_a_misshaped_key_is_named_with_both_shapes(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.update({"head.model.fc1.bias": torch.zeros(3)}))
    with pytest.raises(ValueError, match=r"head\.model\.fc1\.bias \(expected \(32,\), got \(3,\)\)"):
        VegaPolicy.from_pretrained(folder)


def test_frozen_hub_weights_stay_out(
    policy: VegaPolicy, tmp_path: Path, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(policy.config.simulator)
    monkeypatch.setattr(kind, "is_from_hub", property(lambda self: True))
    frozen = external_names(policy)
    assert frozen == {f"simulator.{name}" for name, _ in policy.simulator.named_parameters()}
    policy.save_pretrained(tmp_path)
    assert not frozen & load_file(tmp_path / "model.safetensors").keys()
    assert (tmp_path / "empty_prompt.safetensors").is_file()
    loaded = VegaPolicy.from_pretrained(tmp_path)  # builds the same simulator again: its seed is configured
    policy.reset()
    assert torch.equal(loaded.predict_action_chunk(make_batch()), policy.predict_action_chunk(make_batch()))
