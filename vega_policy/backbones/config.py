"""The settings of a backbone, free of torch so that command lines can parse them quickly."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from vega_policy.names import nearest_name_error

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


@dataclass
class LoraSettings:
    """Low-rank adapters (arXiv 2106.09685) on every linear layer of the language model, and nowhere else.

    Attributes:
        rank: Rank of the adapters; OpenVLA-OFT uses 32.
        alpha: Numerator of the adapters' scale alpha / rank; OpenVLA-OFT uses min(rank, 16).
        dropout: Dropout before the adapters.
    """

    rank: int = 32
    alpha: int = 16
    dropout: float = 0.0


@dataclass
class BackboneConfig:
    """Which multimodal LLM, where its weights come from, and which of them learn.

    Attributes:
        family: One of `FAMILIES`.
        source: Hub id or local folder of the weights. None builds random weights from `architecture`.
        revision: Commit, tag or branch of a Hub id.
        architecture: Arguments of the family's transformers configuration, merged over the family's tiny
            model (about 100 thousand parameters). Only without `source`.
        words: Vocabulary of the word tokenizer; any other word is read as the unknown one. Only without
            `source`.
        init_seed: Seed of every weight that is not loaded, the fusion's and the adapters' included.
        image_size_px: Side of the square image. None is the family's own; a vision tower that takes one size
            refuses another.
        causal_prefix: Whether a prompt token sees only earlier ones. None is as the family was trained; False
            lets image tokens read the instruction behind them, which helps a model trained from scratch.
            Not for `openvla`, whose tokens all see each other.
        dtype: Of the MLLM's weights. The fusion is always built in float32.
        freeze_vision: Keep the vision tower and the MLLM's projector as they are.
        freeze_llm: Keep the language model as it is; implied by `lora`.
        lora: Adapters on the language model; None for none.
        gradient_checkpointing: Recompute the MLLM's layers in the backward pass to save memory.

    Raises:
        ValueError: The family is unknown or has no causal_prefix, or two sources of weights are given.
    """

    CHOSEN_BY: ClassVar = ("family", "source", "architecture")

    family: str = "smolvlm"
    source: str | None = None
    revision: str | None = None
    architecture: dict[str, Any] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    init_seed: int = 0
    image_size_px: int | None = None
    causal_prefix: bool | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    freeze_vision: bool = False
    freeze_llm: bool = False
    lora: LoraSettings | None = None
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise nearest_name_error("backbone family", self.family, FAMILIES)
        if self.source is not None and (self.architecture or self.words):
            raise ValueError(
                f"expected either source or architecture and words, got source={self.source!r} and "
                "the others: a source brings its own architecture and vocabulary; remove one of the two"
            )
        if self.family == "openvla" and self.causal_prefix is not None:
            raise ValueError(
                f"backbone.causal_prefix is {self.causal_prefix}, expected none for openvla, whose tokens "
                "all see each other"
            )

    @property
    def is_from_hub(self) -> bool:
        """Whether the weights can be fetched again by id, so that frozen ones need not be saved."""
        return self.source is not None and not Path(self.source).expanduser().is_dir()


def tiny_smolvlm_config(words: list[str], **overrides: Any) -> BackboneConfig:
    """SmolVLM's architecture at a size that two CPU cores run in milliseconds: 4x4 tokens of a 128 px image.

    Weights start at a standard deviation near 1 / sqrt(width): at transformers' 0.02, meant for widths of
    thousands, a layer this narrow passes next to nothing on, and training stands still for hundreds of steps.

    Args:
        words: Vocabulary of the instructions, for example from `vega_policy.backbones.words.words_of`.
        **overrides: Fields of `BackboneConfig` to change.
    """
    common = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "initializer_range": 0.08}
    vision = {**common, "intermediate_size": 384}
    text = {**common, "intermediate_size": 320}
    architecture = {
        "vision_config": {**vision, "image_size": 128, "patch_size": 32},
        "text_config": {**text, "num_key_value_heads": 2},
        "scale_factor": 1,
    }
    settings: dict[str, Any] = {"architecture": architecture, "causal_prefix": False}
    return BackboneConfig("smolvlm", words=words, **(settings | overrides))
