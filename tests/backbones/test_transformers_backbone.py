"""Reading action slots from every family: the stock model's own states, the mask, positions and the grid."""

import re

import pytest
import torch
from tiny_mllms import GENERATIVE, TASKS, make_backbone

from vega_policy.backbones.base import PromptTokens
from vega_policy.fusion_config import FusionConfig

SLOTS = 3


def observe(backbone, batch=2, cameras=2, proprio=True):
    """Random arguments of `read`."""
    generator = torch.Generator().manual_seed(0)
    side, cells = backbone.image_size_px, backbone.grid[0] * backbone.grid[1]
    return {
        "images": torch.rand(batch, cameras, 3, side, side, generator=generator),
        "generative": torch.randn(batch, cameras, cells, GENERATIVE, generator=generator),
        "prompt": backbone.prompt(TASKS[:batch], cameras),
        "proprio": torch.randn(batch, 1, backbone.hidden_dim, generator=generator) if proprio else None,
        "slots": torch.randn(SLOTS, backbone.hidden_dim, generator=generator),
    }


def test_prompt_is_what_the_stock_processor_makes_of_the_chat_template(case, backbone):
    prompt = backbone.prompt(TASKS, 2)
    assert prompt.ids.tolist() == case.inputs["input_ids"].tolist()
    assert prompt.mask.tolist() == case.inputs["attention_mask"].bool().tolist()


@torch.no_grad()
def test_prefix_states_are_those_of_the_stock_forward_pass(case, backbone):
    """Same pixels, same fused tokens, same positions: only the way the sequence is put together differs."""
    backbone.fused.mllm.load_state_dict(case.mllm.state_dict())
    inputs = {key: value[:1] for key, value in case.inputs.items() if key in PER_SAMPLE}
    inputs |= {key: value[: len(value) // 2] for key, value in case.inputs.items() if key not in PER_SAMPLE}
    if case.name == "llava_onevision":
        inputs["batch_num_images"] = torch.tensor([2])
    with backbone.fused.stream(case.generative[:1]):
        stock = backbone.fused.mllm.model(**inputs).last_hidden_state
    prompt = PromptTokens(inputs["input_ids"], inputs["attention_mask"].bool())
    slots = torch.zeros(SLOTS, backbone.hidden_dim)
    reading = backbone.read(case.pixels[:1], case.generative[:1], prompt, None, slots)
    real = prompt.mask[0]
    torch.testing.assert_close(reading.prefix[0, real], stock[0, real], atol=2e-5, rtol=1e-4)
    unfused = backbone.read(case.pixels[:1], None, prompt, None, slots)
    assert not torch.allclose(unfused.prefix[0, real], stock[0, real], atol=1e-3)


PER_SAMPLE = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "pixel_attention_mask")


@torch.no_grad()
def test_shapes_and_gate(backbone):
    arguments = observe(backbone)
    reading = backbone.read(**arguments)
    length = arguments["prompt"].ids.shape[1] + 1
    assert reading.hidden.shape == (2, SLOTS, backbone.hidden_dim)
    assert reading.prefix.shape == (2, length, backbone.hidden_dim)
    assert reading.prefix_mask.tolist() == [[*row, True] for row in arguments["prompt"].mask.tolist()]
    assert reading.gate.shape == arguments["generative"].shape[:3]
    assert backbone.read(**arguments | {"generative": None}).gate is None


@torch.no_grad()
def test_one_camera_of_one_sample_is_one_grid(backbone):
    """LLaVA-OneVision cuts a lone image into several tiles unless told otherwise."""
    arguments = observe(backbone, batch=1, cameras=1)
    assert backbone.read(**arguments).gate.shape == (1, 1, backbone.grid[0] * backbone.grid[1])


@torch.no_grad()
def test_slots_see_each_other_and_the_prefix_never_sees_them(backbone):
    arguments = observe(backbone)
    another = torch.cat([arguments["slots"], torch.ones(1, backbone.hidden_dim)])
    few, many = backbone.read(**arguments), backbone.read(**arguments | {"slots": another})
    torch.testing.assert_close(few.prefix, many.prefix, atol=1e-5, rtol=1e-4)
    difference = (few.hidden - many.hidden[:, :SLOTS]).abs().amax(-1)
    assert (difference > 1e-4).all()  # a causal mask would leave the first slots alone


@torch.no_grad()
def test_zero_slots_are_told_apart_by_their_positions_and_learned_ones_by_themselves(backbone):
    arguments = observe(backbone)
    empty = backbone.read(**arguments | {"slots": torch.zeros_like(arguments["slots"])}).hidden
    assert (empty[:, 0] - empty[:, 1]).abs().max() > 1e-6
    assert ((backbone.read(**arguments).hidden - empty).abs().amax(-1) > 1e-2).all()


@torch.no_grad()
@pytest.mark.parametrize("causal", [True, False])
def test_image_tokens_read_the_instruction_if_the_prefix_is_not_causal(family_name, causal):
    backbone = make_backbone(family_name, causal_prefix=causal)
    arguments = observe(backbone, batch=1)
    *words, _ = TASKS[0].split()
    other = arguments | {"prompt": backbone.prompt([" ".join([*words, words[0]])], 2)}
    is_image = arguments["prompt"].ids == backbone.image_token_id
    assert torch.equal(other["prompt"].ids == backbone.image_token_id, is_image)
    before, after = (backbone.read(**given).prefix[:, :-1][is_image] for given in (arguments, other))
    assert torch.allclose(before, after, atol=1e-6) == causal


@torch.no_grad()
@pytest.mark.parametrize("argument", ["images", "generative", "proprio"])
def test_slots_see_everything(backbone, argument):
    arguments = observe(backbone)
    before = backbone.read(**arguments).hidden
    changed = backbone.read(**arguments | {argument: arguments[argument].flip(-1)}).hidden
    assert ((before - changed).abs().amax(-1) > 1e-5).all()


@torch.no_grad()
def test_the_instruction_and_the_order_of_cameras_matter(backbone):
    arguments = observe(backbone)
    before = backbone.read(**arguments).hidden
    swapped = arguments | {key: arguments[key].flip(1) for key in ("images", "generative")}
    assert ((before - backbone.read(**swapped).hidden).abs().amax(-1) > 1e-5).all()
    others = arguments | {"prompt": backbone.prompt(TASKS[::-1], 2)}
    assert ((before - backbone.read(**others).hidden).abs().amax(-1) > 1e-5).all()


@torch.no_grad()
def test_a_sample_does_not_depend_on_its_batch(backbone):
    """Prompts differ in length, so one of them is padded."""
    arguments = observe(backbone)
    together = backbone.read(**arguments)
    assert not arguments["prompt"].mask.all()
    for index, task in enumerate(TASKS):
        row = slice(index, index + 1)
        alone = {key: arguments[key][row] for key in ("images", "generative", "proprio")}
        reading = backbone.read(**alone, prompt=backbone.prompt([task], 2), slots=arguments["slots"])
        torch.testing.assert_close(reading.hidden, together.hidden[row], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(reading.gate, together.gate[row])


@torch.no_grad()
def test_visual_tokens_are_in_raster_order(backbone):
    """With vision attention off, one changed cell of pixels changes one token: the one at its place."""
    silence_vision_attention(backbone)
    stock, (rows, cols) = backbone.fused.stock, backbone.grid
    cell = backbone.image_size_px // rows
    pixels = torch.rand(1, 3, *[backbone.image_size_px] * 2, generator=torch.Generator().manual_seed(0))
    before = backbone.family.see(stock, pixels).tokens[0]
    for row in range(rows):
        for col in range(cols):
            changed = pixels.clone()
            changed[..., row * cell : (row + 1) * cell, col * cell : (col + 1) * cell] += 1
            moved = (backbone.family.see(stock, changed).tokens[0] - before).abs().amax(-1) > 1e-6
            assert moved.nonzero().flatten().tolist() == [row * cols + col]


@torch.no_grad()
def test_a_generative_token_lands_on_the_visual_token_of_its_cell(backbone):
    stock, (rows, cols) = backbone.fused.stock, backbone.grid
    pixels = torch.rand(2, 3, *[backbone.image_size_px] * 2)
    generative = torch.randn(1, 2, rows * cols, GENERATIVE)

    def fused_tokens() -> torch.Tensor:
        with backbone.fused.stream(generative):
            return backbone.family.see(stock, pixels).tokens

    before = fused_tokens()
    generative[0, 1, cols + 1] += 1
    assert (fused_tokens() != before).any(-1).nonzero().tolist() == [[1, cols + 1]]


@torch.no_grad()
def test_bfloat16_reads_in_float32(family_name):
    backbone = make_backbone(family_name, dtype="bfloat16")
    exact = make_backbone(family_name)
    exact.load_state_dict(backbone.state_dict())
    reading = backbone.read(**observe(backbone))
    assert reading.hidden.dtype == torch.float32
    assert next(backbone.fused.fusion.parameters()).dtype == torch.float32
    assert backbone.fused.mllm.dtype == torch.bfloat16
    torch.testing.assert_close(reading.hidden, exact.read(**observe(exact)).hidden, atol=0.15, rtol=0.1)


def test_training_a_reading_reaches_every_part(family_name):
    backbone = make_backbone(family_name).train()
    arguments = observe(backbone)
    arguments["proprio"].requires_grad_()
    backbone.read(**arguments).hidden.square().sum().backward()
    assert arguments["proprio"].grad.abs().sum() > 0
    assert all(weight.grad.abs().sum() > 0 for weight in backbone.fused.fusion.parameters())
    language_model = backbone.family.language_model(backbone.fused.stock)
    assert all(weight.grad is not None for weight in language_model.layers.parameters())
    without = [name for name, weight in backbone.fused.stock.named_parameters() if weight.grad is None]
    assert [name for name in without if "post_layernorm" not in name] == [], "LLaVA reads an earlier layer"


def test_gradient_checkpointing_reads_and_trains_alike(family_name):
    results = []
    for checkpointing in (False, True):
        backbone = make_backbone(family_name, gradient_checkpointing=checkpointing).train()
        hidden = backbone.read(**observe(backbone)).hidden
        hidden.square().mean().backward()
        results.append((hidden, backbone.fused.fusion.gate.weight.grad))
        assert backbone.fused.mllm.is_gradient_checkpointing == checkpointing
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])


@torch.no_grad()
def test_arguments_that_do_not_fit_are_refused(family_name):
    backbone = make_backbone(family_name)
    arguments = observe(backbone)
    with pytest.raises(ValueError, match="expected images of shape"):
        backbone.read(**arguments | {"images": arguments["images"][..., :-1]})
    with pytest.raises(ValueError, match="expected 2 prompts"):
        backbone.read(**arguments | {"prompt": backbone.prompt(TASKS[:1], 2)})
    with pytest.raises(ValueError, match="make the prompt for as many cameras"):
        backbone.read(**arguments | {"prompt": backbone.prompt(TASKS, 1)})
    with pytest.raises(ValueError, match="resize the TokenGrid"):
        backbone.read(**arguments | {"generative": arguments["generative"][:, :, 1:]})


@torch.no_grad()
@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
def test_mrope_positions_are_the_stock_ones_and_go_on_over_the_slots(name):
    backbone = make_backbone(name)
    prompt = backbone.prompt(TASKS, 2)
    is_image = (prompt.ids == backbone.image_token_id).long()
    side = backbone.image_size_px // backbone.fused.stock.config.vision_config.patch_size
    stock, _ = backbone.fused.stock.get_rope_index(
        prompt.ids,
        mm_token_type_ids=is_image.int(),
        image_grid_thw=torch.tensor([[1, side, side]] * 4),
        attention_mask=prompt.mask.long(),
    )
    positions = backbone.family.positions(is_image, prompt.mask.long(), backbone.grid, SLOTS)
    length = prompt.ids.shape[1]
    assert torch.equal(
        positions[:, prompt.mask.nonzero().T[0], prompt.mask.nonzero().T[1]], stock[:, prompt.mask]
    )
    last = stock.amax(dim=(0, 2))
    assert torch.equal(positions[..., length:], (last[:, None] + 1 + torch.arange(SLOTS)).expand(3, -1, -1))


@torch.no_grad()
@pytest.mark.parametrize("name", ["smolvlm", "idefics3"])
def test_a_uniformly_grey_camera_is_not_dropped(name):
    """Stock `get_image_features` takes normalised pixels of exactly zero for padding."""
    backbone = make_backbone(name)
    arguments = observe(backbone)
    arguments["images"][:, 0] = 0.5
    assert backbone.read(**arguments).hidden.isfinite().all()


@torch.no_grad()
def test_the_baseline_without_fusion_ignores_the_second_stream(family_name):
    backbone = make_backbone(family_name, FusionConfig("none"))
    arguments = observe(backbone)
    with_stream, without = backbone.read(**arguments), backbone.read(**arguments | {"generative": None})
    assert torch.equal(with_stream.hidden, without.hidden)
    assert with_stream.gate is None


def silence_vision_attention(backbone) -> None:
    """Zeroes what every attention layer of the vision tower adds."""
    vision = backbone.fused.stock.config.vision_config
    language_model = set(backbone.family.language_model(backbone.fused.stock).modules())
    outputs = [
        module
        for name, module in backbone.fused.stock.named_modules()
        if re.search(r"(attn|attention)\.(out_proj|proj|projection_layer)$", name)
        and module not in language_model
    ]
    assert len(outputs) == (getattr(vision, "depth", None) or vision.num_hidden_layers)
    for module in outputs:
        torch.nn.init.zeros_(module.weight)
        torch.nn.init.zeros_(module.bias)
