"""Reading published checkpoints: strictly, by name, from a folder; and the full size without any memory."""

import json
import pickle
import re

import pytest
import torch
from safetensors.torch import save_file

from vega_policy.backbones import BackboneConfig, LoraSettings, build_backbone, openvla
from vega_policy.backbones.openvla import TINY, own_tokenizer, published_architecture
from vega_policy.backbones.openvla_weights import load_component, load_published, source_of
from vega_policy.fusion_config import FusionConfig
from vega_policy.heads.build import build_head
from vega_policy.heads.config import HeadConfig
from vega_policy.proprio import ProprioProjector

PUBLISHED_CONFIG = {  # what openvla-7b's config.json says about the architecture
    "timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"],
    "image_sizes": [224, 224],
    "text_config": {
        "model_type": "llama",
        "pad_token_id": 32000,
        "torch_dtype": "bfloat16",
        "vocab_size": 32064,
    },
}


def make(**settings):
    return build_backbone(BackboneConfig(family="openvla", **settings), FusionConfig(), generative_dim=5)


@pytest.fixture
def folder(tmp_path, checkpoint, monkeypatch):
    """A published checkpoint folder at tiny size, in two shards."""
    monkeypatch.setattr(openvla, "TOWERS", {"tiny-dino": TINY.dino, "tiny-siglip": TINY.siglip})
    settings = {"timm_model_ids": ["tiny-dino", "tiny-siglip"], "image_sizes": [56, 56]}
    settings["text_config"] = {"model_type": "llama", "rms_norm_eps": 1e-5, **TINY.text}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    names = sorted(checkpoint)
    for i, shard in enumerate((names[::2], names[1::2])):
        save_file({name: checkpoint[name] for name in shard}, tmp_path / f"model-{i}-of-2.safetensors")
    own_tokenizer(BackboneConfig(family="openvla")).save_pretrained(tmp_path)
    return tmp_path


def test_every_parameter_has_a_published_source_and_the_rest_is_known_to_be_unused(published_names):
    model = make()
    sources = {source_of(n) for n in model.state_dict() if n.startswith(("vision.", "llm."))}
    assert sources <= set(published_names)
    left = {re.sub(r"\.(weight|bias)$", "", name) for name in set(published_names) - sources}
    assert {re.sub(r"blocks\.(\d+)\..*", r"blocks.\1", name) for name in left} == {
        "vision_backbone.featurizer.blocks.2",
        "vision_backbone.featurizer.norm",
        "vision_backbone.fused_featurizer.blocks.2",
        "vision_backbone.fused_featurizer.norm",
        "vision_backbone.fused_featurizer.attn_pool.latent",
        "vision_backbone.fused_featurizer.attn_pool.kv",
        "language_model.lm_head",
    }


def test_loading_changes_all_but_the_fusion(checkpoint):
    model = make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load_published(model, checkpoint, TINY, "here")
    kept = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert kept == {name for name in before if name.startswith("fusion.")}


def test_missing_unexpected_and_misshaped_tensors_are_named(checkpoint):
    del checkpoint["vision_backbone.featurizer.blocks.1.attn.qkv.bias"]
    checkpoint["vision_backbone.featurizer.blocks.7.attn.qkv.bias"] = torch.zeros(96)
    checkpoint["language_model.model.norm.weight"] = torch.zeros(31)
    with pytest.raises(ValueError, match="here do not fit") as error:
        load_published(make(), checkpoint, TINY, "here")
    message = str(error.value)
    assert "1 missing: vision_backbone.featurizer.blocks.1.attn.qkv.bias" in message
    assert "1 unexpected: vision_backbone.featurizer.blocks.7.attn.qkv.bias" in message
    assert "language_model.model.norm.weight (as llm.norm.weight): expected (32,), got (31,)" in message


def test_nothing_is_loaded_when_something_is_missing(checkpoint):
    model = make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    del checkpoint["projector.fc3.bias"]
    with pytest.raises(ValueError, match=r"projector\.fc3\.bias"):
        load_published(model, checkpoint, TINY, "here")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_folder_gives_the_checkpoint(folder, checkpoint, dtype):
    model = make(source=str(folder), dtype=dtype)
    assert model.llm.config.rms_norm_eps == 1e-5
    assert model.llm.config._attn_implementation == "sdpa"
    reference = checkpoint["vision_backbone.featurizer.blocks.0.attn.qkv.weight"][32:64]
    loaded = model.vision.dino.encoder.layer[0].attention.attention.key.weight
    assert torch.equal(loaded, reference.to(getattr(torch, dtype)))
    assert model.llm.rotary_emb.inv_freq.dtype == torch.float32
    assert model.llm.rotary_emb.inv_freq[0] == 1


def test_folder_without_its_weights_gives_the_shapes_only(folder):
    config = BackboneConfig(family="openvla", source=str(folder))
    for shard in folder.glob("*.safetensors"):
        shard.unlink()
    model = build_backbone(config, FusionConfig(), generative_dim=5, load_weights=False)
    assert model.hidden_dim == 32


@pytest.mark.parametrize(
    ("absent", "named"),
    [
        ("config.json", "no config.json"),
        ("tokenizer.json", "no tokenizer.json"),
        ("*.safetensors", "no .*safetensors"),
    ],
)
def test_incomplete_folder_is_named(folder, absent, named):
    for file in folder.glob(absent):
        file.unlink()
    with pytest.raises(FileNotFoundError, match=named) as error:
        make(source=str(folder))
    assert str(folder) in str(error.value)


def test_other_vision_towers_are_refused():
    settings = PUBLISHED_CONFIG | {"timm_model_ids": ["vit_base_patch16_clip_224"]}
    with pytest.raises(ValueError, match=r"got .'vit_base_patch16_clip_224'"):
        published_architecture(settings)


def test_another_image_size_is_refused(folder):
    with pytest.raises(ValueError, match=r"image_size_px 56.*got 64"):
        make(source=str(folder), image_size_px=64)


def test_tokenizer_without_the_empty_word_is_refused(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text().replace("▁", "_"))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    for extra in ("special_tokens_map.json", "added_tokens.json", "tokenizer_config.json"):
        if (folder / extra).is_file():
            text = (folder / extra).read_text()
            (folder / extra).write_text(text.replace("▁", "_").replace("\\u2581", "_"))
    with pytest.raises(ValueError, match="has no token '▁'"):
        make(source=str(folder))


def test_published_size_on_the_meta_device():
    config = BackboneConfig(family="openvla", source="openvla/openvla-7b", dtype="bfloat16")
    with torch.device("meta"):
        model = build_backbone(config, FusionConfig(name="add"), generative_dim=1536, load_weights=False)
        images = torch.empty(1, 2, 3, 224, 224)
        generative = torch.empty(1, 2, 256, 1536)
        prompt = model.prompt(["open the drawer"], cameras=2).to("meta")
        reading = model.read(images, generative, prompt, torch.empty(1, 1, 4096), torch.empty(56, 4096))
    assert model.grid == (16, 16)
    assert reading.hidden.shape == (1, 56, 4096)
    assert len(model.vision.dino.encoder.layer) == 23
    assert len(model.vision.siglip.vision_model.encoder.layers) == 26
    assert model.vision.projector.fc1.weight.shape == (8704, 2176)
    assert model.llm.embed_tokens.weight.shape == (32064, 4096)


def test_released_text_config_decides_the_norm():
    architecture = published_architecture(PUBLISHED_CONFIG)
    assert architecture.hidden_dim == 4096
    assert architecture.text == {"vocab_size": 32064, "pad_token_id": 32000}
    settings = PUBLISHED_CONFIG | {"text_config": {"rms_norm_eps": 1e-5, "rope_theta": 10000.0}}
    assert published_architecture(settings).text["rms_norm_eps"] == 1e-5


@pytest.mark.parametrize("prefix", ["", "module."])
def test_oft_components_load_by_name(tmp_path, prefix):
    head = build_head(HeadConfig(width=16), hidden_dim=8, chunk_length=2, action_dim=3)
    projector = ProprioProjector(8, 8)
    for component, module in {"action_head": head, "proprio_projector": projector}.items():
        stored = {f"{prefix}{name}": torch.full_like(v, 0.5) for name, v in module.state_dict().items()}
        torch.save(stored, tmp_path / f"{component}--150000_checkpoint.pt")
        load_component(module, tmp_path, component)
        assert all(value.eq(0.5).all() for value in module.state_dict().values())


def test_oft_component_that_does_not_fit_is_named(tmp_path):
    stored = {"fc1.weight": torch.zeros(8, 7), "fc1.bias": torch.zeros(8), "fc3.bias": torch.zeros(8)}
    torch.save(stored, tmp_path / "proprio_projector--5_checkpoint.pt")
    with pytest.raises(ValueError, match="do not fit") as error:
        load_component(ProprioProjector(8, 8), tmp_path, "proprio_projector")
    message = str(error.value)
    assert "2 missing: fc2.bias, fc2.weight" in message
    assert "1 unexpected: fc3.bias" in message
    assert "fc1.weight: expected (8, 8), got (8, 7)" in message


def test_oft_component_must_be_there_once(tmp_path):
    with pytest.raises(FileNotFoundError, match="found none"):
        load_component(ProprioProjector(8, 8), tmp_path, "proprio_projector")


def test_oft_component_that_would_run_code_is_refused(tmp_path):
    torch.save({"fc1.weight": re.compile("x")}, tmp_path / "proprio_projector--5_checkpoint.pt")
    with pytest.raises(pickle.UnpicklingError, match=r"[Ww]eights.only"):
        load_component(ProprioProjector(8, 8), tmp_path, "proprio_projector")


def learning(model):
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def test_freezing_leaves_the_fusion_learning():
    model = make(freeze_vision=True, freeze_llm=True)
    assert learning(model) == {name for name, _ in model.named_parameters() if name.startswith("fusion.")}


def test_lora_adapts_the_language_model_alone():
    model = make(freeze_vision=True, lora=LoraSettings(rank=2, alpha=2))
    adapters = {name for name in learning(model) if not name.startswith("fusion.")}
    assert len(adapters) == 2 * 2 * 7  # A and B, in two layers, on seven projections
    assert all("llm.layers." in name and ".lora_" in name for name in adapters)


def test_lora_targets_match_the_seven_projections_of_every_layer():
    model = make()
    outer = torch.nn.ModuleDict({"backbone": model})
    expression = re.compile(model.lora_targets("backbone"))
    matched = [name for name, module in outer.named_modules() if expression.fullmatch(name)]
    assert len(matched) == 2 * 7
    assert all(isinstance(outer.get_submodule(name), torch.nn.Linear) for name in matched)


def test_words_enlarge_the_vocabulary():
    words = [f"word{i}" for i in range(100)]
    model = make(words=words)
    assert model.llm.config.vocab_size > 100
    assert int(model.prompt(words, cameras=1).ids.max()) < model.llm.config.vocab_size


def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone():
    state = torch.get_rng_state()
    lora = LoraSettings(rank=2)
    first, second = make(lora=lora).state_dict(), make(lora=lora).state_dict()
    other = make(lora=lora, init_seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())
