"""Weights come from folders and Hub ids alike, and what is missing is said, with what to do."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import draccus
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from vega_policy.simulators import SimulatorConfig, build_simulator, tiny_wan_config
from vega_policy.simulators.loading import MissingWeightsError, seeded_init


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hub cache out of reach of the network."""
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


def with_hub_cache(cache: Path, repository: str, folder: Path, commit: str, reference: str) -> None:
    """Lays a folder out as the Hub client would have downloaded it."""
    home = cache / f"models--{repository.replace('/', '--')}"
    shutil.copytree(folder, home / "snapshots" / commit)
    (home / "refs").mkdir(parents=True)
    (home / "refs" / reference).write_text(commit)


def test_a_hub_id_out_of_reach_names_the_id_the_folder_and_the_tiny_alternative(offline: Path) -> None:
    config = SimulatorConfig(source="Wan-AI/Wan2.1-T2V-1.3B-Diffusers", revision="abc123")
    with pytest.raises(MissingWeightsError) as error:
        build_simulator(config)
    for part in (config.source, "abc123", str(offline), "tiny_wan_config()"):
        assert str(part) in str(error.value)


def test_a_hub_id_loads_from_the_cache_at_its_revision(
    offline: Path, wan_folder: Path, wan_config: SimulatorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import snapshot_download

    commit = "0123456789012345678901234567890123456789"
    with_hub_cache(offline, "someone/wan", wan_folder, commit, "v1")
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda *args, **kwargs: snapshot_download(*args, **kwargs, cache_dir=offline, local_files_only=True),
    )
    clips = torch.rand(1, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    hub = build_simulator(replace(wan_config, source="someone/wan", revision="v1"))
    assert torch.equal(hub(clips).values, build_simulator(wan_config)(clips).values)
    with pytest.raises(MissingWeightsError, match="revision v2"):
        build_simulator(replace(wan_config, source="someone/wan", revision="v2"))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="nowhere"):
        build_simulator(SimulatorConfig(source=str(tmp_path / "nowhere")))
    with pytest.raises(MissingWeightsError, match="transformer"):
        build_simulator(SimulatorConfig(source=str(tmp_path)))


def test_a_weight_that_is_missing_is_named_and_not_made_up(
    wan_folder: Path, wan_config: SimulatorConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "wan"
    shutil.copytree(wan_folder, folder)
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["blocks.1.attn1.to_q.weight"]
    save_file(weights, file)
    with pytest.raises(MissingWeightsError, match=r"blocks\.1\.attn1\.to_q\.weight"):
        build_simulator(replace(wan_config, source=str(folder)))


def test_pickled_weights_are_not_read(wan_folder: Path, wan_config: SimulatorConfig, tmp_path: Path) -> None:
    folder = tmp_path / "wan"
    shutil.copytree(wan_folder, folder)
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    with pytest.raises(MissingWeightsError, match="vae"):
        build_simulator(replace(wan_config, source=str(folder)))


def save_tiny_umt5(folder: Path, width: int) -> UMT5EncoderModel:
    config = UMT5Config(vocab_size=16, d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    with seeded_init(0):
        encoder = UMT5EncoderModel(config).to(torch.bfloat16).eval()
    encoder.save_pretrained(folder / "text_encoder")
    words = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    return encoder


@torch.no_grad()
def test_the_empty_prompt_is_made_once_from_the_text_encoder_as_wan_makes_it(
    wan_folder: Path, wan_config: SimulatorConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "wan"
    shutil.copytree(wan_folder, folder)
    (folder / "empty_prompt.safetensors").unlink()
    encoder = save_tiny_umt5(folder, width=64)
    config = replace(wan_config, source=str(folder))
    made = build_simulator(config).backbone.prompt_embedding
    ids = torch.zeros(1, 512, dtype=torch.long)  # Wan pads to 512, encodes under the mask, keeps the valid
    ids[0, 0] = 1
    padded = encoder(ids, attention_mask=(ids > 0).long()).last_hidden_state[0, :1].float()
    torch.testing.assert_close(made, padded, rtol=2e-2, atol=2e-2)
    assert made.abs().max() > 0
    shutil.rmtree(folder / "text_encoder")
    assert torch.equal(build_simulator(config).backbone.prompt_embedding, made)


def test_without_prompt_and_text_encoder_it_says_how_to_get_one(
    wan_folder: Path, wan_config: SimulatorConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "wan"
    shutil.copytree(wan_folder, folder)
    (folder / "empty_prompt.safetensors").rename(tmp_path / "prompt.safetensors")
    config = replace(wan_config, source=str(folder))
    with pytest.raises(MissingWeightsError, match=r"empty_prompt\.safetensors.*prompt_path"):
        build_simulator(config)
    given = build_simulator(replace(config, prompt_path=str(tmp_path / "prompt.safetensors")))
    assert torch.equal(given.backbone.prompt_embedding, build_simulator(wan_config).backbone.prompt_embedding)
    with pytest.raises(MissingWeightsError, match="no such file"):
        build_simulator(replace(config, prompt_path=str(tmp_path / "none.safetensors")))
    save_file({"prompt_embedding": torch.zeros(1, 7)}, tmp_path / "narrow.safetensors")
    with pytest.raises(ValueError, match=r"\(tokens, 64\) in .*narrow.*got \(1, 7\)"):
        build_simulator(replace(config, prompt_path=str(tmp_path / "narrow.safetensors")))


def test_the_configuration_survives_yaml() -> None:
    config = tiny_wan_config(noise_level=200, control="shuffled")
    assert draccus.load(SimulatorConfig, io.StringIO(draccus.dump(config))) == config


def test_only_weights_with_an_id_may_be_left_out_of_a_checkpoint(wan_folder: Path) -> None:
    assert SimulatorConfig(source="Wan-AI/Wan2.1-T2V-1.3B-Diffusers").is_from_hub
    assert not SimulatorConfig(source=str(wan_folder)).is_from_hub
    assert not SimulatorConfig(source="Wan-AI/Wan2.1-T2V-1.3B-Diffusers", control="random_init").is_from_hub
    assert not tiny_wan_config().is_from_hub
