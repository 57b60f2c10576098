"""Reading Wan's weights in the layout of their authors' own release, by diffusers' own renaming.

That layout is one folder with `config.json` (class WanModel), the transformer as safetensors and the
autoencoder as a torch archive, which is read without unpickling objects.
"""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.loaders.single_file_utils import (
    convert_wan_transformer_to_diffusers,
    convert_wan_vae_to_diffusers,
)
from safetensors import safe_open
from torch import Tensor

from vega_policy.simulators.loading import MissingWeightsError

VAE_FILE = "Wan2.1_VAE.pth"


def is_original(folder: Path) -> bool:
    """Whether the folder holds the authors' layout."""
    file = folder / "config.json"
    return file.is_file() and json.loads(file.read_text()).get("_class_name") == "WanModel"


def architecture(folder: Path) -> dict[str, dict[str, Any]]:
    """What the weights in the folder are for, part by part, in diffusers' terms."""
    settings = json.loads((folder / "config.json").read_text())
    return {"transformer": _architecture(settings, settings["num_layers"]), "vae": {}}


def load_transformer(folder: Path, *, num_blocks: int, dtype: torch.dtype) -> WanTransformer3DModel:
    """The first blocks of the transformer.

    Args:
        folder: The authors' layout.
        num_blocks: How many blocks to read.
        dtype: Of the weights, but for modules that diffusers keeps in float32.

    Raises:
        MissingWeightsError: No weights in the folder.
        RuntimeError: A weight is missing or has another shape; it is named.
        ValueError: There are fewer blocks.
    """
    settings = json.loads((folder / "config.json").read_text())
    if not 0 < num_blocks <= settings["num_layers"]:
        raise ValueError(f"expected block in 0..{settings['num_layers'] - 1}, got {num_blocks - 1}")
    with torch.device("meta"):
        model = WanTransformer3DModel(**_architecture(settings, num_blocks))
    weights = convert_wan_transformer_to_diffusers(_first_blocks(folder, num_blocks))
    kept = set(model._keep_in_fp32_modules)
    cast = {k: v.to(torch.float32 if kept & set(k.split(".")) else dtype) for k, v in weights.items()}
    model.load_state_dict(cast, strict=True, assign=True)
    fresh = WanTransformer3DModel(**_architecture(settings, 0))  # its rotary tables are not in the weights
    model.rope = fresh.rope
    return model.eval()


def load_vae(folder: Path, *, dtype: torch.dtype) -> AutoencoderKLWan:
    """The encoder half of the autoencoder.

    Args:
        folder: The authors' layout.
        dtype: Of the weights.

    Raises:
        MissingWeightsError: No autoencoder in the folder.
        RuntimeError: A weight is missing or has another shape; it is named.
    """
    file = folder / VAE_FILE
    if not file.is_file():
        raise MissingWeightsError(f"expected Wan's autoencoder as {file}, found no such file")
    archive = torch.load(file, map_location="cpu", weights_only=True)
    weights = {k: v.to(dtype) for k, v in convert_wan_vae_to_diffusers(archive).items() if _encodes(k)}
    with torch.device("meta"):
        vae = AutoencoderKLWan()
    vae.decoder = vae.post_quant_conv = None
    vae.load_state_dict(weights, strict=True, assign=True)
    return vae.eval()


def _architecture(settings: dict[str, Any], num_blocks: int) -> dict[str, Any]:
    return {
        "num_attention_heads": settings["num_heads"],
        "attention_head_dim": settings["dim"] // settings["num_heads"],
        "in_channels": settings["in_dim"],
        "out_channels": settings["out_dim"],
        "ffn_dim": settings["ffn_dim"],
        "freq_dim": settings["freq_dim"],
        "text_dim": settings.get("text_dim", 4096),
        "eps": settings["eps"],
        "num_layers": num_blocks,
    }


def _first_blocks(folder: Path, num_blocks: int) -> dict[str, Tensor]:
    files = sorted(folder.glob("diffusion_pytorch_model*.safetensors"))
    if not files:
        raise MissingWeightsError(f"expected diffusion_pytorch_model*.safetensors in {folder}, found none")
    weights: dict[str, Tensor] = {}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            names = [name for name in opened.keys() if _kept(name, num_blocks)]  # noqa: SIM118 (not a mapping)
            weights |= {name: opened.get_tensor(name) for name in names}
    return weights


def _kept(name: str, num_blocks: int) -> bool:
    parts = name.removeprefix("model.diffusion_model.").split(".")
    return parts[0] != "blocks" or int(parts[1]) < num_blocks


def _encodes(name: str) -> bool:
    return name.startswith(("encoder.", "quant_conv."))
