"""OpenVLA's mask, positions and reading place, pinned; and what padding, cameras and the fusion change."""

import pytest
import torch

from vega_policy.backbones import BackboneConfig, build_backbone
from vega_policy.backbones.openvla_model import bidirectional_mask, positions
from vega_policy.fusion_config import FusionConfig

SLOTS, GENERATIVE_DIM = 4, 5
LONG, SHORT = "pick up the cup and open the drawer", "open the drawer"


def make(fusion="gated_residual", **settings):
    config = BackboneConfig(family="openvla", words=LONG.split(), **settings)
    return build_backbone(config, FusionConfig(name=fusion), GENERATIVE_DIM)


@pytest.fixture(scope="module")
def model():
    return make()


def observation(batch=2, cameras=2):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, cameras, 3, 56, 56, generator=generator)
    generative = torch.randn(batch, cameras, 16, GENERATIVE_DIM, generator=generator)
    return images, generative, torch.randn(batch, 1, 32, generator=generator)


def read(model, tasks, images, generative, proprio):
    slots = torch.zeros(SLOTS, 32)
    return model.read(images, generative, model.prompt(tasks, images.shape[1]), proprio, slots)


def test_mask_is_the_last_causal_row_in_every_row():
    mask = bidirectional_mask(torch.tensor([[True, False, True, True]]))
    row = [True, False, True, True]
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[[row, row, row, row]]]


def test_positions_skip_padding():
    assert positions(torch.tensor([[True, False, False, True, True]])).tolist() == [[0, 0, 0, 1, 2]]


def test_the_language_model_gets_the_mask_and_zeroed_slots(model):
    seen = {}
    handle = model.llm.register_forward_pre_hook(
        lambda _, args, kwargs: seen.update(kwargs), with_kwargs=True
    )
    reading = read(model, [LONG, SHORT], *observation())
    handle.remove()
    words = len(model.prompter.words(LONG))
    length = 1 + 2 * 16 + 1 + words + SLOTS + 1
    assert seen["attention_mask"].shape == (2, 1, length, length)
    assert seen["attention_mask"][0].all()
    padding = (~seen["attention_mask"][1, 0]).any(dim=0).nonzero().flatten().tolist()
    first_word = 1 + 2 * 16 + 1
    assert padding == list(range(first_word, first_word + len(LONG.split()) - len(SHORT.split())))
    embeddings = seen["inputs_embeds"]
    assert embeddings[:, -1 - SLOTS : -1].abs().max() == 0
    assert embeddings[:, -2 - SLOTS].abs().max() > 0
    stop = model.llm.embed_tokens.weight[model.prompter.stop_id]
    torch.testing.assert_close(embeddings[:, -1], stop.expand(2, -1))
    assert reading.hidden.shape == (2, SLOTS, 32)
    assert reading.prefix.shape == (2, length - 1 - SLOTS, 32)
    assert (~reading.prefix_mask[1]).nonzero().flatten().tolist() == padding


def test_slots_are_read_one_position_early(model, monkeypatch):
    """With the network replaced by one that returns each position's index."""

    def index_of_position(inputs_embeds, **_):
        index = torch.arange(inputs_embeds.shape[1]).float()[None, :, None]
        return type("Output", (), {"last_hidden_state": index.expand(*inputs_embeds.shape[:2], 32)})

    monkeypatch.setattr(model.llm, "forward", index_of_position)
    reading = read(model, [SHORT], *observation(batch=1))
    empty_word = reading.prefix.shape[1] - 1  # the prefix ends in the empty word; slot 0 is one further
    assert reading.hidden[0, :, 0].tolist() == [empty_word + i for i in range(SLOTS)]


def test_prompt_ends_in_the_empty_word_in_one_column(model):
    prompt = model.prompt([LONG.upper(), SHORT], cameras=1)
    assert prompt.ids[:, -1].tolist() == [model.prompter.empty_word_id] * 2
    assert prompt.ids[:, 0].tolist() == [model.prompter.tokenizer.bos_token_id] * 2
    assert prompt.mask[0].all()
    assert prompt.mask[1].sum() == 1 + len(model.prompter.words(SHORT))
    assert torch.equal(prompt.ids[0], model.prompt([LONG], cameras=1).ids[0])


def test_a_sample_is_the_same_alone_and_padded_in_a_batch(model):
    images, generative, proprio = observation()
    with torch.no_grad():
        batched = read(model, [LONG, SHORT], images, generative, proprio)
        alone = read(model, [SHORT], images[1:], generative[1:], proprio[1:])
    torch.testing.assert_close(batched.hidden[1:], alone.hidden, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changed", ["primary image", "wrist image", "task", "proprio", "camera order"])
def test_every_input_reaches_the_actions(model, changed):
    images, _, proprio = observation(batch=1)
    with torch.no_grad():
        before = read(model, [SHORT], images, None, proprio).hidden
        task = LONG if changed == "task" else SHORT
        if changed == "proprio":
            proprio = -proprio
        if changed == "camera order":
            images = images.flip(1)
        if changed.endswith("image"):
            images[:, int(changed == "wrist image")] = 0.5
        after = read(model, [task], images, None, proprio).hidden
    assert (before - after).abs().max() > 1e-4


def test_one_camera_and_no_proprioception(model):
    images, generative, _ = observation(cameras=1)
    assert read(model, [SHORT, SHORT], images, generative, None).hidden.shape == (2, SLOTS, 32)


def test_zero_init_fusion_is_bit_identical_to_none(model):
    images, generative, proprio = observation()
    with torch.no_grad():
        plain = read(model, [LONG, SHORT], images, None, proprio)
        fused = read(model, [LONG, SHORT], images, generative, proprio)
    assert torch.equal(plain.hidden, fused.hidden)
    assert plain.gate is None
    assert fused.gate.shape == (2, 2, 16)


def test_the_second_stream_is_fused_camera_by_camera():
    model = make("gated")
    images, generative, _ = observation()
    with torch.no_grad():
        before, _ = model.see(images, generative)
        generative[0, 1, 3] += 1
        after, _ = model.see(images, generative)
        changed = (before - after).abs().amax(-1).nonzero().tolist()
    assert changed == [[0, 1, 3]]


def test_a_patch_is_the_token_of_its_place():
    """Raster order: with attention switched off, a pixel cell changes one token."""
    model = make()
    with torch.no_grad():
        for name, weight in model.vision.named_parameters():
            if ".attention.output.dense" in name or "out_proj" in name:
                weight.zero_()
        image = torch.full((1, 3, 56, 56), 0.5)
        before = model.vision(image)
        image[:, :, 14:28, 28:42] = 1.0  # row 1, column 2
        changed = (before - model.vision(image)).abs().amax(-1)[0].nonzero().flatten().tolist()
    assert changed == [1 * model.grid[1] + 2]


def test_gradients_reach_the_scale_first_and_the_rest_later():
    model = make()
    images, generative, proprio = observation()
    read(model, [LONG, SHORT], images, generative, proprio).hidden.square().sum().backward()
    assert model.fusion.scale.grad.abs() > 0
    assert model.fusion.gate.weight.grad.abs().max() == 0
    with torch.no_grad():
        model.fusion.scale.fill_(0.5)
    read(model, [LONG, SHORT], images, generative, proprio).hidden.square().sum().backward()
    assert model.fusion.gate.weight.grad.abs().max() > 0
    unused = [n for n, p in model.named_parameters() if p.grad is None]
    assert unused == []


def test_bfloat16_is_close_and_keeps_positions_exact():
    exact, rounded = make(), make(dtype="bfloat16")
    assert rounded.llm.rotary_emb.inv_freq.dtype == torch.float32
    assert rounded.fusion.scale.dtype == torch.float32
    rounded.load_state_dict(exact.state_dict())
    images, generative, proprio = observation()
    with torch.no_grad():
        reference = read(exact, [LONG, SHORT], images, generative, proprio).hidden
        value = read(rounded, [LONG, SHORT], images, generative, proprio).hidden
    assert value.dtype == torch.float32
    assert 0 < (value - reference).norm() / reference.norm() < 0.05


def test_gradient_checkpointing_gives_the_same_gradients():
    observed = observation()
    gradients = []
    for checkpointing in (False, True):
        model = make(gradient_checkpointing=checkpointing).train()
        read(model, [LONG, SHORT], *observed).hidden.square().sum().backward()
        gradients.append(model.llm.layers[0].mlp.up_proj.weight.grad)
    torch.testing.assert_close(*gradients)


def test_wrong_image_size_is_named(model):
    with pytest.raises(ValueError, match=r"expected images of 56 x 56 px, got \(64, 64\)"):
        read(model, [SHORT], torch.rand(1, 1, 3, 64, 64), None, None)


def test_number_of_prompts_must_fit(model):
    with pytest.raises(ValueError, match="2 samples, 1 prompts"):
        read(model, [SHORT], torch.rand(2, 1, 3, 56, 56), None, None)
