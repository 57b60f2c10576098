"""Stock MLLMs from the Hub, from a local folder, or from a configuration with random weights.

transformers warns about missing weights and goes on with random ones; here that is an error.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vega_policy.backbones.config import BackboneConfig
from vega_policy.backbones.families.base import Architecture, Family, Mean
from vega_policy.backbones.known import KNOWN_ARCHITECTURES
from vega_policy.backbones.words import word_tokenizer
from vega_policy.simulators.loading import MissingWeightsError

TRANSFORMERS = "5.5"
ATTENTION = "sdpa"  # takes the boolean mask over action slots; eager silently misreads it


@dataclass(frozen=True)
class Loaded:
    """An MLLM, its tokenizer, and the pixel statistics it was trained with."""

    mllm: Any
    tokenizer: Any
    mean: Mean
    std: Mean


def require_transformers() -> None:
    """Refuses a transformers whose internals were not the ones this package hooks into.

    Raises:
        ImportError: Another version than `TRANSFORMERS` is installed.
    """
    import transformers

    if not transformers.__version__.startswith(f"{TRANSFORMERS}."):
        raise ImportError(
            f"expected transformers {TRANSFORMERS}.x, whose visual tokens are known to be reached, "
            f"got {transformers.__version__}: pip install 'transformers>={TRANSFORMERS},<5.6'"
        )


def load_mllm(config: BackboneConfig, family: Family, *, load_weights: bool) -> Loaded:
    """The MLLM that `config` describes, in evaluation mode.

    Args:
        config: Where the weights come from.
        family: The family that `config` names.
        load_weights: False builds random weights of the same shapes.

    Raises:
        MissingWeightsError: The weights are not there, or not complete.
    """
    require_transformers()
    if config.source is None or (not load_weights and config.source in KNOWN_ARCHITECTURES):
        return _random(config, family)
    return _pretrained(config, family, load_weights)


def _random(config: BackboneConfig, family: Family) -> Loaded:
    from transformers import AutoConfig, AutoModelForImageTextToText

    tokenizer = word_tokenizer(config.words, family.special_tokens)
    architecture = KNOWN_ARCHITECTURES.get(str(config.source)) or merged(family.tiny, config.architecture)
    architecture = merged(architecture, family.vocabulary_ids(tokenizer))
    text = architecture["text_config"]
    sizes = {
        "vocab_size": max(text.get("vocab_size", 0), len(tokenizer)),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    stock = AutoConfig.for_model(family.model_type, **merged(architecture, {"text_config": sizes}))
    mllm = AutoModelForImageTextToText.from_config(
        stock, dtype=getattr(torch, config.dtype), attn_implementation=ATTENTION
    )
    return Loaded(mllm.eval(), tokenizer, family.mean, family.std)


def _pretrained(config: BackboneConfig, family: Family, load_weights: bool) -> Loaded:
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

    where = {"revision": config.revision}
    options = {"dtype": getattr(torch, config.dtype), "attn_implementation": ATTENTION}
    source = str(_existing(config))
    try:
        stock = AutoConfig.from_pretrained(source, **where)
        _require_family(stock.model_type, family, config)
        tokenizer = AutoTokenizer.from_pretrained(source, **where)
        mean, std = _pixel_statistics(source, config.revision)
        if not load_weights:
            mllm = AutoModelForImageTextToText.from_config(stock, **options)
            return Loaded(mllm.eval(), tokenizer, mean, std)
        mllm, info = AutoModelForImageTextToText.from_pretrained(
            source, output_loading_info=True, use_safetensors=True, **where, **options
        )
    except OSError as error:
        raise _missing(config, str(error).splitlines()[0]) from error
    if info["missing_keys"]:
        names = sorted(info["missing_keys"])
        raise _missing(config, f"{len(names)} weights missing, first {names[0]}")
    return Loaded(mllm.eval(), tokenizer, mean, std)


def _existing(config: BackboneConfig) -> Path | str:
    """The local folder, or the Hub id.

    Raises:
        MissingWeightsError: A path that is no folder and cannot be a Hub id.
    """
    source = str(config.source)
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or source.startswith(("./", "../", "~")) or source.count("/") != 1:
        raise _missing(config, "no such folder")
    return source


def _pixel_statistics(source: str, revision: str | None) -> tuple[Mean, Mean]:
    from transformers.image_processing_utils import ImageProcessingMixin

    settings, _ = ImageProcessingMixin.get_image_processor_dict(source, revision=revision)
    return tuple(settings["image_mean"]), tuple(settings["image_std"])


def _require_family(model_type: str, family: Family, config: BackboneConfig) -> None:
    if model_type != family.model_type:
        raise ValueError(
            f"expected a checkpoint of {family.model_type} (backbone.family), got {model_type} from "
            f"{config.source!r}: set backbone.family={model_type} if it is a supported family"
        )


def _missing(config: BackboneConfig, detail: str) -> MissingWeightsError:
    from huggingface_hub import constants

    revision = f" (revision {config.revision})" if config.revision else ""
    looked_in = f"the Hub cache {constants.HF_HUB_CACHE}" if config.is_from_hub else "that folder"
    return MissingWeightsError(
        f"expected weights of backbone {config.family!r} from {config.source!r}{revision}, found none in "
        f"{looked_in}: {detail}. Fetch them with `hf download <id> --local-dir <folder>` and set "
        "backbone.source to that folder, or leave it out for a tiny model with random weights"
    )


def merged(base: Architecture, over: Architecture) -> Architecture:
    """`base` with the entries of `over`, nested dictionaries merged."""
    result = dict(base)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if nested else value
    return result
