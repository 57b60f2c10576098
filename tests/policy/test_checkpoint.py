"""Checkpoints: equal after loading, strict about every key, and without frozen Hub weights."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lerobot.configs.policies import PreTrainedConfig
from safetensors.torch import load_file, save_file

from vega_policy.checkpoint import external_names, hub_commit
from vega_policy.configuration_vega import VegaConfig
from vega_policy.hub import commit_of
from vega_policy.modeling_vega import VegaPolicy
from vega_policy.simulators.config import SimulatorConfig

MakeBatch = Callable[..., dict[str, Any]]
COMMIT = "0123456789" * 4


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


def test_octaves_of_the_state_can_be_given_to_a_policy_that_has_none(
    folder: Path, policy: VegaPolicy, make_batch: MakeBatch
) -> None:
    finer = replace(PreTrainedConfig.from_pretrained(folder), proprioception_octaves=4)
    loaded = VegaPolicy.from_pretrained(folder, config=finer)
    policy.reset()
    assert torch.equal(loaded.predict_action_chunk(make_batch()), policy.predict_action_chunk(make_batch()))


def test_octaves_that_were_trained_must_be_there(folder: Path, tmp_path: Path) -> None:
    finer = replace(PreTrainedConfig.from_pretrained(folder), proprioception_octaves=4)
    VegaPolicy.from_pretrained(folder, config=finer).save_pretrained(tmp_path / "finer")
    assert VegaPolicy.from_pretrained(tmp_path / "finer").config.proprioception_octaves == 4
    edit_weights(tmp_path / "finer", lambda weights: weights.pop("proprio.octaves.linear.weight"))
    with pytest.raises(ValueError, match=r"1 missing, first proprio\.octaves\.linear\.weight"):
        VegaPolicy.from_pretrained(tmp_path / "finer")


def test_frozen_hub_weights_stay_out(
    policy: VegaPolicy, tmp_path: Path, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(policy.config.simulator)
    monkeypatch.setattr(kind, "is_from_hub", property(lambda self: True))
    assert not external_names(policy), "the commit is not known: everything is kept"
    monkeypatch.setitem(policy.commits, "simulator", COMMIT)
    frozen = external_names(policy)
    assert frozen == {f"simulator.{name}" for name, _ in policy.simulator.named_parameters()}
    policy.save_pretrained(tmp_path)
    assert not frozen & load_file(tmp_path / "model.safetensors").keys()
    assert (tmp_path / "empty_prompt.safetensors").is_file()
    assert json.loads((tmp_path / "config.json").read_text())["simulator"]["revision"] == COMMIT
    loaded = VegaPolicy.from_pretrained(tmp_path)  # builds the same simulator again: its seed is configured
    policy.reset()
    assert torch.equal(loaded.predict_action_chunk(make_batch()), policy.predict_action_chunk(make_batch()))


def test_a_branch_or_tag_is_written_down_as_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    references = tmp_path / "models--someone--wan" / "refs"
    references.mkdir(parents=True)
    (references / "main").write_text(COMMIT)
    (references / "v1").write_text(COMMIT[::-1])
    assert commit_of("someone/wan", None) == COMMIT
    assert commit_of("someone/wan", "v1") == COMMIT[::-1]
    assert commit_of("someone/wan", "f" * 40) == "f" * 40
    assert commit_of("someone/wan", "v2") is None
    assert commit_of("someone/else", None) is None
    assert hub_commit(SimulatorConfig(source="someone/wan")) == COMMIT
    assert hub_commit(SimulatorConfig(source=str(tmp_path))) is None


def test_a_checkpoint_on_the_hub_brings_its_empty_prompt(
    folder: Path, policy: VegaPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a text encoder of billions of weights would be fetched to compute a few numbers."""
    (folder / "empty_prompt.safetensors").write_bytes(b"as it was saved")
    cache = tmp_path / "hub"
    home = cache / "models--someone--policy"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    shutil.copytree(folder, home / "snapshots" / COMMIT, ignore=shutil.ignore_patterns("hub"))
    found: list[str | None] = []
    build = VegaPolicy.__init__

    def noted(self: VegaPolicy, config: VegaConfig, **options: Any) -> None:
        found.append(config.simulator.prompt_path)
        config.simulator = replace(config.simulator, prompt_path=None)
        build(self, config, **options)

    monkeypatch.setattr(VegaPolicy, "__init__", noted)
    here = {"cache_dir": cache, "local_files_only": True}
    loaded = VegaPolicy.from_pretrained(
        "someone/policy", config=PreTrainedConfig.from_pretrained(folder), **here
    )
    assert found == [str(home / "snapshots" / COMMIT / "empty_prompt.safetensors")]
    assert torch.equal(loaded.head.state_dict()["model.fc1.bias"], policy.head.state_dict()["model.fc1.bias"])
