"""Where weights come from, which of them learn, and the errors when something is not there."""

import json
from pathlib import Path

import draccus
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_mllms import GENERATIVE, IMAGE_SIZE_PX, TASKS, make_backbone
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vega_policy.backbones import BackboneConfig, LoraSettings, build_backbone, tiny_smolvlm_config
from vega_policy.backbones.known import KNOWN_ARCHITECTURES
from vega_policy.backbones.transformers_mllm import TransformersBackbone
from vega_policy.fusion_config import FusionConfig
from vega_policy.simulators.loading import MissingWeightsError


def save_checkpoint(backbone: TransformersBackbone, folder: Path) -> Path:
    """A folder as `from_pretrained` expects it: weights, tokenizer, and the pixel statistics."""
    backbone.fused.mllm.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    statistics = {
        "image_mean": backbone.mean.flatten().tolist(),
        "image_std": backbone.std.flatten().tolist(),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(statistics))
    return folder


def from_folder(name: str, folder: Path, **settings) -> TransformersBackbone:
    config = BackboneConfig(name, source=str(folder), image_size_px=IMAGE_SIZE_PX.get(name), **settings)
    return build_backbone(config, FusionConfig(), GENERATIVE)


def read(backbone: TransformersBackbone, slots: int = 3) -> torch.Tensor:
    """With the zero-init fusion, so that only the MLLM's weights matter."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 2, 3, *[backbone.image_size_px] * 2, generator=generator)
    cells = backbone.grid[0] * backbone.grid[1]
    generative = torch.randn(2, 2, cells, GENERATIVE, generator=generator)
    with torch.no_grad():
        return backbone.read(
            images, generative, backbone.prompt(TASKS, 2), None, torch.zeros(slots, backbone.hidden_dim)
        ).hidden


def test_a_local_folder_loads_what_was_saved(family_name, tmp_path):
    saved = make_backbone(family_name, FusionConfig(), init_seed=5)
    loaded = from_folder(family_name, save_checkpoint(saved, tmp_path))
    torch.testing.assert_close(read(loaded), read(saved))
    assert loaded.prompt(TASKS, 2).ids.tolist() == saved.prompt(TASKS, 2).ids.tolist()
    assert not loaded.fused.mllm.training


def test_the_configured_dtype_wins_over_the_saved_one(tmp_path):
    folder = save_checkpoint(make_backbone("smolvlm"), tmp_path)
    assert from_folder("smolvlm", folder, dtype="bfloat16").fused.mllm.dtype == torch.bfloat16
    assert from_folder("smolvlm", folder).fused.mllm.dtype == torch.float32


def test_missing_weights_name_the_id_the_place_and_the_alternative(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    missing = str(tmp_path / "nowhere")
    with pytest.raises(MissingWeightsError, match=rf"{missing}.*no such folder.*tiny model"):
        build_backbone(BackboneConfig("smolvlm", source=missing), FusionConfig(), GENERATIVE)
    hub = BackboneConfig("smolvlm", source="nobody/no-such-model", revision="abc")
    with pytest.raises(
        MissingWeightsError, match=r"nobody/no-such-model.*revision abc.*Hub cache.*tiny model"
    ):
        build_backbone(hub, FusionConfig(), GENERATIVE)


def test_an_incomplete_checkpoint_is_refused(tmp_path):
    folder = save_checkpoint(make_backbone("smolvlm"), tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["model.text_model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MissingWeightsError, match=r"1 weights missing, first model\.text_model\.norm"):
        from_folder("smolvlm", folder)


def test_a_checkpoint_of_another_family_is_refused(tmp_path):
    folder = save_checkpoint(make_backbone("smolvlm"), tmp_path)
    with pytest.raises(ValueError, match=r"expected a checkpoint of internvl.*got smolvlm"):
        from_folder("internvl", folder)


def test_a_folder_without_weights_gives_its_shapes(tmp_path):
    saved = make_backbone("smolvlm")
    folder = save_checkpoint(saved, tmp_path)
    (folder / "model.safetensors").unlink()
    config = BackboneConfig("smolvlm", source=str(folder))
    built = build_backbone(config, FusionConfig(), GENERATIVE, load_weights=False)
    assert {name: weight.shape for name, weight in built.named_parameters()} == {
        name: weight.shape for name, weight in saved.named_parameters()
    }


@pytest.mark.parametrize(
    ("source", "billions", "hidden_dim", "grid"),
    [
        ("llava-hf/llava-onevision-qwen2-0.5b-ov-hf", 0.9, 896, (27, 27)),
        ("llava-hf/llava-onevision-qwen2-7b-ov-hf", 8.0, 3584, (27, 27)),
        ("Qwen/Qwen2.5-VL-3B-Instruct", 3.8, 2048, (16, 16)),
        ("Qwen/Qwen2.5-VL-7B-Instruct", 8.3, 3584, (16, 16)),
    ],
)
def test_published_sizes_read_on_the_meta_device(source, billions, hidden_dim, grid, monkeypatch):
    """Every shape of a large configuration, without its weights."""
    assert source in KNOWN_ARCHITECTURES
    config = BackboneConfig("qwen2_5_vl" if "Qwen" in source else "llava_onevision", source=source)
    with torch.device("meta"):
        backbone = build_backbone(config, FusionConfig(), 1536, load_weights=False)
    mllm = sum(weight.numel() for weight in backbone.fused.mllm.parameters())
    assert mllm / 1e9 == pytest.approx(billions, abs=0.1)
    assert (backbone.hidden_dim, backbone.grid) == (hidden_dim, grid)
    if "Qwen" in source:
        stand_in_for_vision(backbone, monkeypatch)
    prompt = backbone.prompt(["open the drawer"], 2).to("meta")
    images = torch.empty(1, 2, 3, *[backbone.image_size_px] * 2, device="meta")
    generative = torch.empty(1, 2, grid[0] * grid[1], 1536, device="meta")
    proprio = torch.empty(1, 1, hidden_dim, device="meta")
    with torch.no_grad():
        slots = torch.empty(56, hidden_dim, device="meta")
        reading = backbone.read(images, generative, prompt, proprio, slots)
    assert reading.hidden.shape == (1, 56, hidden_dim)
    assert reading.gate.shape == (1, 2, grid[0] * grid[1])


def stand_in_for_vision(backbone: TransformersBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Qwen2.5-VL's vision blocks read values, which meta tensors lack; its embedding and merger do not."""
    visual = backbone.fused.stock.visual

    def forward(patches: torch.Tensor, grid_thw: torch.Tensor, **_: object) -> BaseModelOutputWithPooling:
        embedded = visual.patch_embed(patches)
        assert grid_thw.prod(-1).sum() == len(embedded)
        return BaseModelOutputWithPooling(pooler_output=visual.merger(embedded))

    monkeypatch.setattr(visual, "forward", forward)


def test_random_weights_follow_their_seed_and_leave_the_global_generator_alone(family_name):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, again, other = (make_backbone(family_name, init_seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.fused.fusion.gate.weight, other.fused.fusion.gate.weight)
    assert not torch.equal(read(first), read(other))


def trainable(backbone: TransformersBackbone) -> set[str]:
    return {name for name, weight in backbone.fused.named_parameters() if weight.requires_grad}


def test_frozen_parts_do_not_learn_and_the_fusion_does(family_name):
    everything = trainable(make_backbone(family_name))
    without_vision = trainable(make_backbone(family_name, freeze_vision=True))
    without_llm = trainable(make_backbone(family_name, freeze_llm=True))
    fusion = {name for name in everything if name.startswith("fusion.")}
    assert fusion <= without_vision & without_llm
    assert without_vision & without_llm - fusion == set()
    assert everything == without_vision | without_llm
    assert trainable(make_backbone(family_name, freeze_vision=True, freeze_llm=True)) == fusion


def test_lora_adapts_the_language_model_only_and_starts_as_the_original(family_name):
    lora = make_backbone(family_name, freeze_vision=True, lora=LoraSettings(rank=2, alpha=4))
    adapters = {name for name in trainable(lora) if "lora_" in name}
    assert trainable(lora) == adapters | {name for name in trainable(lora) if name.startswith("fusion.")}
    layers = lora.fused.mllm.config.get_text_config().num_hidden_layers
    assert len(adapters) == 2 * 7 * layers  # A and B of q, k, v, o, gate, up and down
    assert all("language_model" in name or "text_model" in name for name in adapters)
    torch.testing.assert_close(read(lora), read(make_backbone(family_name)))


def test_lora_learns_with_gradient_checkpointing(family_name):
    backbone = make_backbone(family_name, lora=LoraSettings(rank=2), gradient_checkpointing=True).train()
    images = torch.rand(2, 2, 3, *[backbone.image_size_px] * 2)
    slots = torch.zeros(3, backbone.hidden_dim)
    backbone.read(images, None, backbone.prompt(TASKS, 2), None, slots).hidden.square().sum().backward()
    grown = [weight for name, weight in backbone.named_parameters() if "lora_B" in name]
    assert all(weight.grad.abs().sum() > 0 for weight in grown)


def test_lora_targets_are_what_peft_finds_from_a_larger_module(family_name):
    from peft import LoraConfig, inject_adapter_in_model

    class Owner(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = make_backbone(family_name)

    owner = Owner()
    inject_adapter_in_model(LoraConfig(r=2, target_modules=owner.backbone.lora_targets("backbone")), owner)
    own = make_backbone(family_name, lora=LoraSettings(rank=2))
    expected = {f"backbone.{name}" for name, _ in own.named_parameters() if "lora_" in name}
    assert {name for name, _ in owner.named_parameters() if "lora_" in name} == expected


def test_image_sizes_that_a_tower_does_not_take_are_refused():
    for name, size_px, message in [
        ("llava_onevision", 70, "takes 56 px only"),
        ("paligemma", 70, "takes 56 px only"),
        ("smolvlm", 128, "takes up to 64 px"),
        ("internvl", 60, "multiple of 28 px.*nearest is 56"),
        ("qwen3_vl", 100, "multiple of 32 px.*nearest is 96"),
    ]:
        with pytest.raises(ValueError, match=message):
            build_backbone(BackboneConfig(name, image_size_px=size_px), FusionConfig(), GENERATIVE)


def test_eager_attention_is_refused(monkeypatch):
    monkeypatch.setattr("vega_policy.backbones.loading.ATTENTION", "eager")
    with pytest.raises(ValueError, match="misreads the boolean mask"):
        make_backbone("smolvlm")


def test_config_names_the_nearest_family_and_refuses_two_sources():
    with pytest.raises(ValueError, match="did you mean 'qwen2_5_vl'"):
        BackboneConfig("qwen25_vl")
    with pytest.raises(ValueError, match="remove one of the two"):
        BackboneConfig("smolvlm", source="a/b", words=["pick"])
    assert BackboneConfig("smolvlm", source="a/b").is_from_hub
    assert not BackboneConfig("smolvlm", source=str(Path(__file__).parent)).is_from_hub
    assert not BackboneConfig("smolvlm").is_from_hub


def test_config_survives_yaml(tmp_path):
    config = tiny_smolvlm_config(["pick", "up"], lora=LoraSettings(rank=4))
    with (tmp_path / "backbone.yaml").open("w") as file:
        draccus.dump(config, file)
    assert draccus.parse(BackboneConfig, tmp_path / "backbone.yaml", args=[]) == config


def test_the_tiny_backbone_is_tiny_and_reads_a_4_by_4_grid():
    backbone = build_backbone(tiny_smolvlm_config(["pick", "up"]), FusionConfig(), 128)
    assert backbone.grid == (4, 4)
    assert backbone.image_size_px == 128
    assert 0.5e6 < sum(weight.numel() for weight in backbone.parameters()) < 2e6
