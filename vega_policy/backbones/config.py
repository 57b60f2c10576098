"""The settings of a backbone, free of torch so that command lines can parse them quickly."""

import difflib
from dataclasses import dataclass, field
from typing import Any

from vega_policy.fusion_config import FusionConfig

FAMILIES = (
    "llava_onevision",
    "qwen2_5_vl",
    "qwen3_vl",
    "smolvlm",
    "idefics3",
    "paligemma",
    "internvl",
    "openvla",
)
DTYPES = ("float32", "bfloat16")


@dataclass
class LoraSettings:
    """Low-rank adapters (arXiv 2106.09685) on every linear layer of the language model, and nowhere else.

    Attributes:
        rank: rank of the adapters; OpenVLA-OFT uses 32.
        alpha: numerator of the adapters' scale alpha / rank; OpenVLA-OFT uses min(rank, 16).
        dropout: dropout before the adapters.
    """

    rank: int = 32
    alpha: int = 16
    dropout: float = 0.0


@dataclass
class BackboneConfig:
    """Which multimodal LLM, where its weights come from, and which of them learn.

    Attributes:
        family: one of `FAMILIES`.
        pretrained: Hub id or local folder of a transformers checkpoint; None for random weights.
        revision: the Hub revision to pin.
        architecture: arguments of the family's transformers config when `pretrained` is None; empty for the
            family's tiny model (about 100 thousand parameters).
        words: vocabulary of the word tokenizer when `pretrained` is None; others become the unknown word.
        image_size_px: side of the square image; None for the family's own. Families whose vision tower takes
            one size only refuse another.
        dtype: `float32` or `bfloat16`, of the MLLM; the fusion is always built in float32.
        fusion: how the generative tokens join.
        freeze_vision: keep the vision tower and the MLLM's projector as they are.
        freeze_llm: keep the language model as it is; implied by `lora`.
        lora: adapters on the language model; None for none.
        gradient_checkpointing: recompute the MLLM's layers in the backward pass to save memory.
    """

    family: str = "smolvlm"
    pretrained: str | None = None
    revision: str | None = None
    architecture: dict[str, Any] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    image_size_px: int | None = None
    dtype: str = "float32"
    fusion: FusionConfig = field(default_factory=FusionConfig)
    freeze_vision: bool = False
    freeze_llm: bool = False
    lora: LoraSettings | None = None
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        _require_known("backbone family", self.family, FAMILIES)
        _require_known("dtype", self.dtype, DTYPES)
        if self.pretrained and (self.architecture or self.words):
            raise ValueError(
                f"backbone.pretrained={self.pretrained!r} brings its own architecture and vocabulary: "
                "leave backbone.architecture and backbone.words empty"
            )


def _require_known(kind: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown {kind} {name!r}: choose one of {', '.join(known)}; nearest is {nearest!r}")
