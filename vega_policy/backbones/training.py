"""Which weights of a fused MLLM learn, and what their training costs in memory."""

import re

from torch import nn

from vega_policy.backbones.config import BackboneConfig, LoraSettings
from vega_policy.backbones.fused import FusedMLLM


def make_trainable(fused: FusedMLLM, config: BackboneConfig) -> None:
    """Freezes, adapts and checkpoints the MLLM as `config` says; the fusion always learns."""
    language_model = fused.family.language_model(fused.stock)
    if config.freeze_vision:
        language_weights = set(language_model.parameters())
        for weight in fused.stock.parameters():
            weight.requires_grad_(weight.requires_grad and weight in language_weights)
    if config.freeze_llm or config.lora is not None:
        language_model.requires_grad_(False)
        fused.mllm.get_output_embeddings().requires_grad_(False)
    if config.lora is not None:
        add_lora(fused, config.lora)
    if config.gradient_checkpointing:
        fused.mllm.gradient_checkpointing_enable()


def add_lora(fused: FusedMLLM, settings: LoraSettings) -> None:
    """Puts trainable adapters into the language model in place, without a wrapper around the MLLM."""
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.tuners_utils import cast_adapter_dtype

    trainable = {name for name, weight in fused.mllm.named_parameters() if weight.requires_grad}
    adapters = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=linears_inside(fused.mllm, fused.family.language_model(fused.stock)),
    )
    inject_adapter_in_model(adapters, fused.mllm)
    cast_adapter_dtype(fused.mllm, "default")
    for name, weight in fused.mllm.named_parameters():  # peft froze everything else
        weight.requires_grad_(weight.requires_grad or name in trainable)


def linears_inside(model: nn.Module, part: nn.Module, prefix: str = "") -> str:
    """A regular expression of the attention and MLP projections of `part`, a decoder inside `model`.

    Args:
        model: Whose module names the expression matches.
        part: Module of `model`.
        prefix: Dotted path of `model` in a larger one.
    """
    path = next(name for name, module in model.named_modules() if module is part)
    return re.escape(".".join(filter(None, (prefix, path)))) + r"\..*_proj"
