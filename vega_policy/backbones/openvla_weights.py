"""Reading the published checkpoints of OpenVLA and OpenVLA-OFT by name, strictly.

The checkpoints use timm's names for the vision towers and transformers' for the rest. For every parameter,
`source_of` says which published tensor it comes from and `part_of` which part of it: timm keeps query, key
and value in one matrix, and has no position for DINOv2's class token (it is folded into the token). What no
forward pass reads stays in the file: each tower's last block and final norm, SigLIP's pooling head, the
output over words.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vega_policy.backbones.prismatic import PrismaticArchitecture

# our name (a regular expression) -> the published one
RENAMED = (
    (r"vision\.dino\.embeddings\.cls_token", "vision_backbone.featurizer.cls_token"),
    (r"vision\.dino\.embeddings\.register_tokens", "vision_backbone.featurizer.reg_token"),
    (r"vision\.dino\.embeddings\.position_embeddings", "vision_backbone.featurizer.pos_embed"),
    (
        r"vision\.dino\.embeddings\.patch_embeddings\.projection\.(.+)",
        r"vision_backbone.featurizer.patch_embed.proj.\1",
    ),
    (r"vision\.dino\.encoder\.layer\.(.+)", r"vision_backbone.featurizer.blocks.\1"),
    (
        r"vision\.siglip\.vision_model\.embeddings\.position_embedding\.weight",
        "vision_backbone.fused_featurizer.pos_embed",
    ),
    (
        r"vision\.siglip\.vision_model\.embeddings\.patch_embedding\.(.+)",
        r"vision_backbone.fused_featurizer.patch_embed.proj.\1",
    ),
    (r"vision\.siglip\.vision_model\.encoder\.layers\.(.+)", r"vision_backbone.fused_featurizer.blocks.\1"),
    (r"vision\.projector\.(.+)", r"projector.\1"),
    (r"llm\.(.+)", r"language_model.model.\1"),
)
# within a block of either tower
BLOCK_PARTS = (
    (r"\.(?:attention\.attention|self_attn)\.(?:query|key|value|[qkv]_proj)\.", ".attn.qkv."),
    (r"\.(?:attention\.output\.dense|self_attn\.out_proj)\.", ".attn.proj."),
    (r"\.layer_norm([12])\.", r".norm\1."),
    (r"\.layer_scale([12])\.lambda1", r".ls\1.scale_factor"),
)
QKV_ORDER = {"q": 0, "k": 1, "v": 2}


def source_of(name: str) -> str:
    """The published name of the tensor that our parameter `name` is made from."""
    for ours, published in RENAMED:
        if re.fullmatch(ours, name):
            name = re.sub(ours, published, name)
            break
    else:
        raise KeyError(f"no published name is known for {name}")
    if ".blocks." in name:
        for ours, published in BLOCK_PARTS:
            name = re.sub(ours, published, name)
    return name


def part_of(name: str) -> Callable[[Tensor], Tensor]:
    """How our parameter `name` is cut out of its published tensor."""
    in_a_tower = r"vision\..+\.(?:attention\.attention\.(q|k|v)(?:uery|ey|alue)|self_attn\.(q|k|v)_proj)\."
    projection = re.match(in_a_tower, name)
    if projection:
        third = QKV_ORDER[projection.group(1) or projection.group(2)]
        return lambda tensor: tensor.chunk(3)[third]
    if name.endswith("dino.embeddings.position_embeddings"):
        return with_class_position
    if name.endswith("siglip.vision_model.embeddings.position_embedding.weight"):
        return lambda tensor: tensor.squeeze(0)
    return lambda tensor: tensor


def with_class_position(patches: Float[Tensor, "1 n dim"]) -> Float[Tensor, "1 positions dim"]:
    """Position embeddings with a zero for the class token in front."""
    return torch.cat([torch.zeros_like(patches[:, :1]), patches], dim=1)


def left_in_the_file(architecture: PrismaticArchitecture) -> re.Pattern[str]:
    """Published names that the forward pass never reads."""
    last_dino = architecture.dino["num_hidden_layers"] - 1
    last_siglip = architecture.siglip["num_hidden_layers"] - 1
    return re.compile(
        rf"vision_backbone\.featurizer\.(blocks\.{last_dino}|norm)\..+"
        rf"|vision_backbone\.fused_featurizer\.(blocks\.{last_siglip}|norm|attn_pool)\..+"
        r"|language_model\.lm_head\.weight"
    )


def load_published(
    model: nn.Module, checkpoint: Mapping[str, Tensor], architecture: PrismaticArchitecture, origin: str
) -> None:
    """Copies a published state dict into a model with children `vision` and `llm`.

    Args:
        model: gets the weights in its own dtype; other children (the fusion) are left as they are.
        checkpoint: tensors under their published names.
        architecture: what `model` was built from.
        origin: where the checkpoint came from, for the error.

    Raises:
        ValueError: a tensor is missing, unexpected or of another shape; the message names them.
    """
    own = {n: v for n, v in model.state_dict().items() if n.startswith(("vision.", "llm."))}
    sources = {name: source_of(name) for name in own}
    unused = left_in_the_file(architecture)
    translated = {n: part_of(n)(checkpoint[s]) for n, s in sources.items() if s in checkpoint}
    refuse_differences(
        missing={s for s in sources.values() if s not in checkpoint},
        unexpected={s for s in checkpoint if s not in set(sources.values()) and not unused.fullmatch(s)},
        shapes=[(f"{sources[n]} (as {n})", own[n].shape, v.shape) for n, v in translated.items()],
        origin=origin,
    )
    model.load_state_dict(translated, strict=False)


def load_component(module: nn.Module, folder: Path, component: str) -> None:
    """Loads a part that OpenVLA-OFT saves beside the model, such as `action_head` or `proprio_projector`.

    Args:
        module: an `L1Head` or a `ProprioProjector` of the published size.
        folder: holds exactly one file `<component>--<step>_checkpoint.pt`.
        component: name of the part.

    Raises:
        FileNotFoundError: there is no such file, or there are several.
        ValueError: a tensor is missing, unexpected or of another shape; the message names them.
    """
    files = sorted(folder.glob(f"{component}--*_checkpoint.pt"))
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise FileNotFoundError(f"expected one {component}--*_checkpoint.pt in {folder}, found {found}")
    stored = torch.load(files[0], map_location="cpu", weights_only=True)
    weights = {name.removeprefix("module."): value for name, value in stored.items()}  # saved under DDP
    own = module.state_dict()
    refuse_differences(
        missing=own.keys() - weights.keys(),
        unexpected=weights.keys() - own.keys(),
        shapes=[(name, own[name].shape, weights[name].shape) for name in own.keys() & weights.keys()],
        origin=str(files[0]),
    )
    module.load_state_dict(weights)


def refuse_differences(
    missing: Iterable[str],
    unexpected: Iterable[str],
    shapes: Iterable[tuple[str, torch.Size, torch.Size]],
    origin: str,
) -> None:
    """Raises a ValueError that names what is missing, unexpected or misshaped, if anything is."""
    complaints = {
        "missing": sorted(set(missing)),
        "unexpected": sorted(set(unexpected)),
        "misshaped": sorted(
            f"{name}: expected {tuple(expected)}, got {tuple(given)}"
            for name, expected, given in shapes
            if expected != given
        ),
    }
    found = [f"{len(names)} {kind}: {shortened(names)}" for kind, names in complaints.items() if names]
    if found:
        raise ValueError(f"the weights in {origin} do not fit the model; {'; '.join(found)}")


def shortened(names: list[str], limit: int = 8) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
