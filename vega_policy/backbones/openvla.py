"""From a `BackboneConfig` of family `openvla` to the model: tiny, of a published size, or a checkpoint's.

A checkpoint folder is the published one: `config.json` (whose `text_config` decides the norm's epsilon),
safetensors, and Llama's tokenizer files. OpenVLA-OFT's action head and proprioception projector lie beside
them; `openvla_weights.load_component` reads those. FiLM ("OFT+") checkpoints are not supported.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.initialization import no_init_weights
from transformers.modeling_utils import local_torch_dtype

from vega_policy.backbones.config import BackboneConfig, LoraSettings
from vega_policy.backbones.loading import _existing, _missing, merged, require_transformers
from vega_policy.backbones.openvla_model import OpenVla
from vega_policy.backbones.openvla_prompt import EMPTY_WORD, TEMPLATE
from vega_policy.backbones.openvla_weights import load_published
from vega_policy.backbones.prismatic import PrismaticArchitecture, published_dino, published_siglip
from vega_policy.backbones.words import word_tokenizer, words_of
from vega_policy.fusion import build_fusion
from vega_policy.fusion_config import FusionConfig
from vega_policy.simulators.loading import seeded_init

TINY = PrismaticArchitecture(
    image_size_px=56,
    dino={"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "num_register_tokens": 4},
    siglip={"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 80},
    text={
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    },
)
# sizes of the towers by their names in a checkpoint's config.json
TOWERS = {
    "vit_large_patch14_reg4_dinov2.lvd142m": published_dino(),
    "vit_so400m_patch14_siglip_224": published_siglip(),
}
DOWNLOADED = ("*.json", "*.safetensors", "tokenizer*")
NOT_FOR_LLAMA_CONFIG = {"model_type", "torch_dtype", "dtype", "_attn_implementation"}


def build(
    config: BackboneConfig, fusion: FusionConfig, generative_dim: int, *, load_weights: bool = True
) -> OpenVla:
    """See `vega_policy.backbones.build_backbone`; a Hub id without its weights has the published 7B sizes."""
    require_transformers()
    folder = checkpoint_folder(config, load_weights)
    tokenizer = own_tokenizer(config) if folder is None else stock_tokenizer(config, folder)
    architecture = architecture_of(config, folder, len(tokenizer))
    checkpoint = read_checkpoint(config, folder) if folder is not None and load_weights else None
    with seeded_init(config.init_seed):
        joined = build_fusion(fusion, semantic_dim=architecture.hidden_dim, generative_dim=generative_dim)
        with created_as(getattr(torch, config.dtype), empty=checkpoint is not None):
            model = OpenVla(architecture, tokenizer, joined).eval()
        if checkpoint is not None:
            load_published(model, checkpoint, architecture, str(folder))
        choose_what_learns(model, config)
    return model


def checkpoint_folder(config: BackboneConfig, load_weights: bool) -> Path | None:
    """The folder that files are read from, fetched if need be; None if none are."""
    if config.source is None:
        return None
    source = _existing(config)
    if isinstance(source, Path):
        return source
    if not load_weights:
        return None
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, revision=config.revision, allow_patterns=list(DOWNLOADED)))
    except OSError as error:  # offline, no such repository, gated: all of huggingface_hub's are OSError
        raise _missing(config, str(error).splitlines()[0]) from error


def architecture_of(config: BackboneConfig, folder: Path | None, num_words: int) -> PrismaticArchitecture:
    """The sizes that a configuration or a checkpoint's `config.json` asks for.

    Raises:
        ValueError: `config.image_size_px` is not what the checkpoint's towers take.
    """
    if folder is not None:
        architecture = published_architecture(read_settings(config, folder))
    elif config.source is not None:
        architecture = PrismaticArchitecture()
    else:
        architecture = PrismaticArchitecture(**merged(asdict(TINY), config.architecture))
        vocabulary = max(architecture.text["vocab_size"], num_words)
        architecture = replace(architecture, text=architecture.text | {"vocab_size": vocabulary})
        return replace(architecture, image_size_px=config.image_size_px or architecture.image_size_px)
    if config.image_size_px not in (None, architecture.image_size_px):
        raise ValueError(
            f"expected backbone.image_size_px {architecture.image_size_px}, the one size that the vision "
            f"towers of {config.source!r} take, got {config.image_size_px}"
        )
    return architecture


def published_architecture(settings: Mapping[str, Any]) -> PrismaticArchitecture:
    """The architecture in an OpenVLA checkpoint's `config.json`.

    Raises:
        ValueError: it is a Prismatic model with other vision towers.
    """
    towers = settings.get("timm_model_ids", [])
    if len(towers) != len(TOWERS) or any(tower not in TOWERS for tower in towers):
        raise ValueError(
            f"expected an OpenVLA checkpoint with the vision towers {', '.join(TOWERS)}, got {towers}"
        )
    dino, siglip = (TOWERS[tower] for tower in towers)
    text = {k: v for k, v in settings["text_config"].items() if k not in NOT_FOR_LLAMA_CONFIG}
    return PrismaticArchitecture(
        image_size_px=settings["image_sizes"][0], dino=dino, siglip=siglip, text=text
    )


def read_settings(config: BackboneConfig, folder: Path) -> Mapping[str, Any]:
    """The checkpoint's `config.json`."""
    file = folder / "config.json"
    if not file.is_file():
        raise _missing(config, f"no config.json in {folder}")
    return json.loads(file.read_text())


def read_checkpoint(config: BackboneConfig, folder: Path) -> dict[str, Tensor]:
    """All published tensors, mapped from the files rather than read."""
    from safetensors.torch import load_file

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise _missing(config, f"no *.safetensors in {folder}")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def own_tokenizer(config: BackboneConfig) -> Any:
    """A word tokenizer for a model without a checkpoint."""
    return word_tokenizer([*config.words, *words_of([TEMPLATE.format(task="")])], [EMPTY_WORD])


def stock_tokenizer(config: BackboneConfig, folder: Path) -> Any:
    """The checkpoint's tokenizer."""
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        raise _missing(config, f"no tokenizer.json or tokenizer.model in {folder}")
    return AutoTokenizer.from_pretrained(folder)


@contextmanager
def created_as(dtype: torch.dtype, empty: bool) -> Iterator[None]:
    """Within it modules are created in `dtype`, without initial values if they are about to be loaded.

    A later `.to(dtype)` would also round the rotary frequencies, which shifts positions in bfloat16.
    """
    with ExitStack() as stack:
        stack.enter_context(local_torch_dtype(dtype))
        if empty:
            stack.enter_context(no_init_weights())
        yield


def choose_what_learns(model: OpenVla, config: BackboneConfig) -> None:
    """Freezes, adapts and checkpoints as `config` says; the fusion always learns."""
    model.vision.requires_grad_(not config.freeze_vision)
    model.llm.requires_grad_(not config.freeze_llm)
    if config.lora is not None:
        add_lora(model, config.lora)
    if config.gradient_checkpointing:
        model.llm.gradient_checkpointing_enable()


def add_lora(model: OpenVla, settings: LoraSettings) -> None:
    """Puts adapters into the language model in place; peft freezes the rest of it."""
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.tuners_utils import cast_adapter_dtype

    adapters = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=r"layers\..*_proj",
    )
    inject_adapter_in_model(adapters, model.llm)
    cast_adapter_dtype(model.llm, "default")
