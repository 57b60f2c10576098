"""The second stream in stock MLLMs, through every family's own processor, `forward` and `generate`."""

import copy
from types import SimpleNamespace

import pytest
import torch
from tiny_mllms import GENERATIVE

from vega_policy.backbones.fused import FusedMLLM
from vega_policy.fusion_config import FusionConfig


def fuse(case, **settings) -> FusedMLLM:
    torch.manual_seed(0)
    return FusedMLLM(case.mllm, FusionConfig(**settings), GENERATIVE)


def logits(fused: FusedMLLM, case, generative=None) -> torch.Tensor:
    return fused(generative, **case.inputs).logits


def new_tokens(sequences: torch.Tensor, case) -> torch.Tensor:
    return sequences[:, case.inputs["input_ids"].shape[1] :]


@torch.no_grad()
def test_zero_init_fusion_is_the_original_model_bit_for_bit(case):
    original = case.mllm(**case.inputs).logits
    fused = fuse(case)
    assert torch.equal(logits(fused, case), original)
    assert torch.equal(logits(fused, case, case.generative), original)
    fused.fusion.scale.fill_(0.5)
    assert not torch.equal(logits(fused, case, case.generative), original)
    assert torch.equal(logits(fused, case), original)


@torch.no_grad()
def test_logits_depend_on_the_image(case):
    """Else the other tests could pass without looking."""
    before = case.mllm(**case.inputs).logits
    case.inputs["pixel_values"] = case.inputs["pixel_values"].flip(-1)
    assert not torch.allclose(case.mllm(**case.inputs).logits, before)


@torch.no_grad()
def test_zero_init_in_bfloat16_with_a_float32_fusion(case):
    case.mllm.to(torch.bfloat16)
    case.inputs["pixel_values"] = case.inputs["pixel_values"].bfloat16()
    original = case.mllm(**case.inputs).logits
    assert torch.equal(logits(fuse(case), case, case.generative), original)


def test_gradients_reach_the_scale_first_and_gate_and_projector_after_it(case):
    fused = fuse(case)
    case.mllm.requires_grad_(False)
    logits(fused, case, case.generative).square().sum().backward()
    assert {name for name, w in fused.fusion.named_parameters() if w.grad.abs().sum() > 0} == {"scale"}
    with torch.no_grad():
        fused.fusion.scale -= 0.1 * fused.fusion.scale.grad.sign()
    fused.zero_grad()
    logits(fused, case, case.generative).square().sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in fused.fusion.parameters())


def test_gradient_checkpointing_gives_the_same_gradients(case):
    fused = fuse(case, residual_scale=0.5).train()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            case.mllm.gradient_checkpointing_enable()
        fused.zero_grad()
        logits(fused, case, case.generative).square().mean().backward()
        gradients.append([weight.grad.clone() for weight in fused.parameters() if weight.grad is not None])
    assert case.mllm.is_gradient_checkpointing
    assert len(gradients[0]) > len(list(fused.fusion.parameters()))
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


@torch.no_grad()
def test_generate_answers_from_the_fused_tokens(case):
    original = case.mllm.generate(**case.inputs, max_new_tokens=3, do_sample=False)
    fused = fuse(case)
    assert torch.equal(
        fused.generate(case.generative, **case.inputs, max_new_tokens=3, do_sample=False), original
    )
    fused.fusion.scale.fill_(3.0)
    answer = fused.generate(case.generative, **case.inputs, max_new_tokens=3, do_sample=False)
    expected = logits(fused, case, case.generative)[:, -1].argmax(-1)
    assert torch.equal(new_tokens(answer, case)[:, 0], expected)


@torch.no_grad()
def test_beams_follow_their_sample(case):
    """With more beams than one, pixels and second stream are both repeated, each for its own sample."""
    keep_one_image(case)
    fused = fuse(case, residual_scale=3.0)
    beams = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 1, "do_sample": False}
    answers = new_tokens(fused.generate(case.generative, **case.inputs, **beams), case)
    best = logits(fused, case, case.generative)[:, -1].topk(3).indices
    assert answers.view(2, 3).sort().values.tolist() == best.sort().values.tolist()


@torch.no_grad()
def test_beams_with_several_images_are_right_or_refused(case):
    fused = fuse(case, residual_scale=3.0)
    beams = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 1, "do_sample": False}
    if not fused.family.repeats_whole_samples:
        with pytest.raises(ValueError, match="2 images and 3 sequences"):
            fused.generate(case.generative, **case.inputs, **beams)
        return
    answers = new_tokens(fused.generate(case.generative, **case.inputs, **beams), case)
    best = logits(fused, case, case.generative)[:, -1].topk(3).indices
    assert answers.view(2, 3).sort().values.tolist() == best.sort().values.tolist()


@torch.no_grad()
def test_a_deep_copy_runs_its_own_weights(case):
    fused = fuse(case, residual_scale=0.5)
    before = logits(fused, case, case.generative)
    twin = copy.deepcopy(fused)
    assert torch.equal(logits(twin, case, case.generative), before)
    twin.fusion.scale.fill_(2.0)
    assert not torch.equal(logits(twin, case, case.generative), before)
    assert torch.equal(logits(fused, case, case.generative), before)
    for weight in fused.mllm.parameters():
        weight.zero_()
    assert not torch.equal(logits(twin, case, case.generative), torch.zeros_like(before))


def test_survives_peft_with_gradients_to_the_adapters(case):
    from peft import LoraConfig, get_peft_model

    fused = fuse(case, residual_scale=0.5)
    before = logits(fused, case, case.generative)
    settings = LoraConfig(r=2, target_modules=r".*(language_model|text_model).*\.(q|v)_proj")
    fused.mllm = get_peft_model(case.mllm, settings)
    torch.testing.assert_close(logits(fused, case, case.generative), before)
    logits(fused, case, case.generative).square().sum().backward()
    adapters = {name: w for name, w in fused.mllm.named_parameters() if "lora_B" in name}
    assert len(adapters) == 2 * case.mllm.config.get_text_config().num_hidden_layers
    assert all(weight.grad.abs().sum() > 0 for weight in adapters.values())
    assert fused.fusion.gate.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_gate_map_per_camera(case):
    fused = fuse(case)
    assert fused.gate is None
    logits(fused, case, case.generative)
    assert fused.gate.shape == case.generative.shape[:3]
    torch.nn.init.zeros_(fused.fusion.gate.weight)
    torch.nn.init.constant_(fused.fusion.gate.bias, 2.0)
    logits(fused, case, case.generative)
    torch.testing.assert_close(fused.gate, torch.sigmoid(torch.full_like(fused.gate, 2.0)))


@torch.no_grad()
def test_a_stream_that_does_not_fit_is_refused(case):
    fused = fuse(case)
    for wrong in (case.generative[:, :, 1:], case.generative[:, :1]):
        with pytest.raises(ValueError, match="resize the TokenGrid"):
            logits(fused, case, wrong)
    with pytest.raises(ValueError, match="of shape"):
        logits(fused, case, case.generative[0])
    assert torch.equal(logits(fused, case), logits(fused, case, case.generative))  # nothing is left behind


@torch.no_grad()
def test_a_stream_without_images_is_refused(case):
    fused = fuse(case)
    ids = torch.full((1, 4), case.tokenizer.unk_token_id)
    extra = {"token_type_ids": torch.zeros_like(ids)} if case.name == "paligemma" else {}
    with pytest.raises(RuntimeError, match="looked at no image"):
        fused(case.generative, input_ids=ids, **extra)


def test_unknown_family_names_the_nearest():
    stranger = SimpleNamespace(config=SimpleNamespace(model_type="llava_next"))
    with pytest.raises(ValueError, match="llava_onevision"):
        FusedMLLM(stranger, FusionConfig(), GENERATIVE)


def test_another_transformers_is_refused(monkeypatch):
    monkeypatch.setattr("transformers.__version__", "5.6.0")
    with pytest.raises(ImportError, match=r"expected transformers 5\.5\.x.*got 5\.6\.0"):
        FusedMLLM(SimpleNamespace(config=SimpleNamespace(model_type="smolvlm")), FusionConfig(), GENERATIVE)


def keep_one_image(case) -> None:
    """Leaves each sample its first image, in the inputs that stock `generate` expands."""
    from_second = CROPS[case.name]
    ids, image = case.inputs["input_ids"], case.mllm.config.image_token_id
    case.generative = case.generative[:, :1]
    keep = torch.ones_like(ids, dtype=torch.bool)
    for row, sample in enumerate(ids):
        placeholders = (sample == image).nonzero().flatten()
        keep[row, placeholders[len(placeholders) // 2 :]] = False
    for key in ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"):
        if key in case.inputs:
            case.inputs[key] = case.inputs[key][keep].view(len(ids), -1)
    from_second(case.inputs)


def _first_of_each(inputs) -> None:
    inputs["pixel_values"] = inputs["pixel_values"][::2]


def _first_of_nested(inputs) -> None:
    inputs["pixel_values"] = inputs["pixel_values"][:, :1]
    inputs.pop("pixel_attention_mask", None)


def _first_tile(inputs) -> None:
    _first_of_each(inputs)
    inputs["image_sizes"] = inputs["image_sizes"][::2]
    inputs["batch_num_images"] = torch.tensor([4])  # any count but 1 asks for one tile per image


def _first_grid(inputs) -> None:
    grid = inputs["image_grid_thw"]
    patches = inputs["pixel_values"].view(len(grid), -1, inputs["pixel_values"].shape[-1])
    inputs["pixel_values"] = patches[::2].flatten(0, 1)
    inputs["image_grid_thw"] = grid[::2]


CROPS = {
    "llava_onevision": _first_tile,
    "qwen2_5_vl": _first_grid,
    "qwen3_vl": _first_grid,
    "smolvlm": _first_of_nested,
    "idefics3": _first_of_nested,
    "paligemma": _first_of_each,
    "internvl": _first_of_each,
}
