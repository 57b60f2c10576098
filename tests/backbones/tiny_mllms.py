"""Tiny stock MLLMs of every family with random weights, and their own processors built offline."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vega_policy.backbones import BackboneConfig, build_backbone
from vega_policy.backbones.families import family_named
from vega_policy.backbones.loading import load_mllm
from vega_policy.backbones.transformers_mllm import TransformersBackbone
from vega_policy.fusion_config import FusionConfig

GENERATIVE = 24
CHATS = {  # one question about two images, as each family's chat template writes it, before expansion
    "llava_onevision": "<|im_start|>user <image><image>\n{q}<|im_end|><|im_start|>assistant\n",
    "qwen2_5_vl": (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "<|vision_start|><|image_pad|><|vision_end|><|vision_start|><|image_pad|><|vision_end|>{q}<|im_end|>\n"
        "<|im_start|>assistant\n"
    ),
    "qwen3_vl": (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|><|vision_start|><|image_pad|>"
        "<|vision_end|>{q}<|im_end|>\n<|im_start|>assistant\n"
    ),
    "smolvlm": "<|im_start|>User:<image><image>{q}<end_of_utterance>\nAssistant:",
    "idefics3": "<|begin_of_text|>User:<image><image>{q}<end_of_utterance>\nAssistant:",
    "paligemma": "<image><image>{q}",
    "internvl": "<|im_start|>user\n<IMG_CONTEXT>\n<IMG_CONTEXT>\n{q}<|im_end|>\n<|im_start|>assistant\n",
}
IMAGE_SIZE_PX = {"qwen2_5_vl": 112, "qwen3_vl": 128}  # the others have their own
TASKS = ("pick up the black bowl", "open the drawer")
WORDS = ["pick", "up", "the", "black", "bowl", "open", "drawer"]


@dataclass
class Case:
    """One family: its tiny MLLM, and two samples of two images through its own processor."""

    name: str
    mllm: Any
    tokenizer: Any
    inputs: dict[str, torch.Tensor]
    pixels: torch.Tensor  # the same images, (2, 2, 3, side, side) in [0, 1]
    generative: torch.Tensor


def make_backbone(name: str, fusion: FusionConfig | None = None, **settings: Any) -> TransformersBackbone:
    config = BackboneConfig(name, words=WORDS, image_size_px=IMAGE_SIZE_PX.get(name), **settings)
    return build_backbone(config, fusion or FusionConfig(residual_scale=0.5), GENERATIVE)


def make_case(name: str, monkeypatch: pytest.MonkeyPatch) -> Case:
    family = family_named(name)
    torch.manual_seed(0)
    loaded = load_mllm(BackboneConfig(name, words=WORDS), family, load_weights=True)
    config = loaded.mllm.config
    side = IMAGE_SIZE_PX.get(name) or family.default_image_size_px(config)
    rows, cols = family.grid(config, side)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 2, side, side, 3), dtype=np.uint8)
    questions = [f"What action should the robot take to {task}?" for task in TASKS]
    processor = PROCESSORS[name](loaded.tokenizer, side, (rows, cols), monkeypatch)
    inputs = processor(
        images=[[Image.fromarray(image) for image in sample] for sample in images],
        text=[CHATS[name].format(q=question) for question in questions],
        padding=True,
        return_tensors="pt",
        **({"crop_to_patches": False} if name == "internvl" else {}),
    )
    return Case(
        name,
        loaded.mllm,
        loaded.tokenizer,
        {key: value for key, value in inputs.items() if key != "labels"},
        torch.from_numpy(images).permute(0, 1, 4, 2, 3) / 255,
        torch.randn(2, 2, rows * cols, GENERATIVE, generator=torch.Generator().manual_seed(0)),
    )


def _llava_onevision(tokenizer: Any, side: int, grid: tuple[int, int], _: Any) -> Any:
    from transformers import (
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
    )

    images = LlavaOnevisionImageProcessor(
        size={"height": side, "width": side},
        image_grid_pinpoints=[[side, side]],
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return LlavaOnevisionProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(),
        num_image_tokens=grid[0] * grid[1],
        vision_feature_select_strategy="full",
    )


def _qwen2_5_vl(tokenizer: Any, side: int, grid: tuple[int, int], _: Any) -> Any:
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    area = {"shortest_edge": side**2, "longest_edge": side**2}
    return Qwen2_5_VLProcessor(Qwen2VLImageProcessor(size=area), tokenizer, Qwen2VLVideoProcessor())


def _qwen3_vl(tokenizer: Any, side: int, grid: tuple[int, int], _: Any) -> Any:
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    area = {"shortest_edge": side**2, "longest_edge": side**2}
    mean = [0.5] * 3
    images = Qwen2VLImageProcessor(size=area, patch_size=16, image_mean=mean, image_std=mean)
    return Qwen3VLProcessor(images, tokenizer, Qwen3VLVideoProcessor())


def _idefics3(tokenizer: Any, side: int, grid: tuple[int, int], _: Any) -> Any:
    from transformers import Idefics3ImageProcessor, Idefics3Processor

    images = Idefics3ImageProcessor(
        size={"longest_edge": side}, max_image_size={"longest_edge": side}, do_image_splitting=False
    )
    return Idefics3Processor(images, tokenizer, image_seq_len=grid[0] * grid[1])


def _smolvlm(tokenizer: Any, side: int, grid: tuple[int, int], monkeypatch: Any) -> Any:
    from transformers import SmolVLMImageProcessor, SmolVLMProcessor, SmolVLMVideoProcessor
    from transformers.models.smolvlm import processing_smolvlm

    monkeypatch.setattr(processing_smolvlm, "num2words", str)  # an optional package that only videos need
    images = SmolVLMImageProcessor(
        size={"longest_edge": side}, max_image_size={"longest_edge": side}, do_image_splitting=False
    )
    return SmolVLMProcessor(
        images, tokenizer, video_processor=SmolVLMVideoProcessor(), image_seq_len=grid[0] * grid[1]
    )


def _paligemma(tokenizer: Any, side: int, grid: tuple[int, int], _: Any) -> Any:
    from transformers import PaliGemmaProcessor, SiglipImageProcessor

    images = SiglipImageProcessor(size={"height": side, "width": side})
    images.image_seq_length = grid[0] * grid[1]
    return PaliGemmaProcessor(images, tokenizer)


def _internvl(tokenizer: Any, side: int, grid: tuple[int, int], _: Any) -> Any:
    from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor

    names = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<unk>",
    }
    for name, token in names.items():
        setattr(tokenizer, name, token)
        setattr(tokenizer, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
    images = GotOcr2ImageProcessor(
        size={"height": side, "width": side},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    return InternVLProcessor(images, tokenizer, InternVLVideoProcessor(), image_seq_length=grid[0] * grid[1])


PROCESSORS = {
    "llava_onevision": _llava_onevision,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "smolvlm": _smolvlm,
    "idefics3": _idefics3,
    "paligemma": _paligemma,
    "internvl": _internvl,
}
