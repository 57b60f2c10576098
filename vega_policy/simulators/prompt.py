"""The empty prompt's embedding: one small tensor that stands in for a text encoder of billions of weights.

It is made once from the text encoder that comes with the generator, kept as `empty_prompt.safetensors` in
the weights' folder, and saved in the policy's checkpoint. It is not zero: it embeds the end-of-text token.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vega_policy.simulators.loading import ROOT, MissingWeightsError, PartLoader

FILE, KEY = "empty_prompt.safetensors", "prompt_embedding"
TEXT_PARTS = ("text_encoder", "tokenizer")
TEXT_FILES = ("*.json", "*.model", "*.txt", "model*.safetensors*")

Encoder = Callable[[Path], Float[Tensor, "tokens width"]]
"""Makes the embedding from a folder that holds `TEXT_PARTS`."""

_log = logging.getLogger(__name__)


def empty_prompt(
    parts: PartLoader, encode: Encoder, width: int, tokens: int
) -> Float[Tensor, "tokens width"]:
    """The embedding of "": from `prompt_path`, the weights' folder, or the text encoder, in this order.

    Args:
        parts: The source; without weights the embedding is random, from the configuration's `init_seed`.
        encode: Makes the embedding from the text encoder.
        width: Width of a text token.
        tokens: Number of tokens of a random embedding.

    Raises:
        MissingWeightsError: None of the three is there.
        ValueError: The file holds another shape.
    """
    if parts.config.prompt_path is not None:
        return _read(Path(parts.config.prompt_path).expanduser(), width)
    if not parts.loads:
        generator = torch.Generator(device="cpu").manual_seed(parts.config.init_seed)
        return torch.randn(tokens, width, generator=generator, device="cpu")
    file = parts.folder([ROOT], [FILE]) / FILE
    return _read(file, width) if file.is_file() else _make(parts, encode)


def umt5_encoder(folder: Path) -> Float[Tensor, "1 width"]:
    """Wan's embedding of "" without its padding: the text encoder's output for the lone end-of-text token.

    Wan encodes 512 tokens and keeps the valid ones; under the attention mask they do not see the padding,
    so encoding the valid one alone gives the same vector.
    """
    from transformers import AutoTokenizer, UMT5EncoderModel

    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    encoder = UMT5EncoderModel.from_pretrained(
        folder / "text_encoder", use_safetensors=True, dtype=torch.bfloat16
    )
    ids = tokenizer("", add_special_tokens=True, return_tensors="pt").input_ids
    with torch.no_grad():
        return encoder(ids).last_hidden_state[0].float()


def clip_encoder(folder: Path) -> Float[Tensor, "77 width"]:
    """Stable Diffusion's embedding of "": all 77 tokens, since CLIP's padding is attended to."""
    from transformers import AutoTokenizer, CLIPTextModel

    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(
        folder / "text_encoder", use_safetensors=True, dtype=torch.float32
    )
    limit = encoder.config.max_position_embeddings
    ids = tokenizer("", padding="max_length", max_length=limit, return_tensors="pt").input_ids
    with torch.no_grad():
        return encoder(ids).last_hidden_state[0]


def _make(parts: PartLoader, encode: Encoder) -> Float[Tensor, "tokens width"]:
    folder = parts.folder(TEXT_PARTS, TEXT_FILES)
    if not all((folder / part).is_dir() for part in TEXT_PARTS):
        raise MissingWeightsError(
            f"expected the empty prompt's embedding as {folder / FILE}, or {' and '.join(TEXT_PARTS)} in "
            f"{folder} to make it from; found neither for {parts.config.source!r}. Set simulator.prompt_path "
            "to the embedding, or fetch the text encoder once; the tiny alternative, tiny_wan_config(), "
            "needs neither"
        )
    embedding = encode(folder)
    save_prompt(folder / FILE, embedding)
    return embedding


def save_prompt(file: Path, embedding: Float[Tensor, "tokens width"]) -> None:
    """Keeps an embedding for later; a folder that cannot be written to is only a warning.

    Args:
        file: Where to; `prompt_path` reads it.
        embedding: The valid tokens.
    """
    from safetensors.torch import save_file

    try:
        save_file({KEY: embedding.contiguous()}, file)
    except OSError as error:
        _log.warning(
            "the empty prompt's embedding could not be kept as %s (%s); it is made anew", file, error
        )


def _read(file: Path, width: int) -> Float[Tensor, "tokens width"]:
    from safetensors.torch import load_file

    if not file.is_file():
        raise MissingWeightsError(f"expected the empty prompt's embedding in {file}, found no such file")
    if file.suffix == ".safetensors":
        embedding = load_file(file)[KEY]
    else:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
        embedding = loaded[0] if isinstance(loaded, list) else loaded
    embedding = embedding.squeeze(0) if embedding.ndim == 3 else embedding
    if embedding.ndim != 2 or embedding.shape[1] != width:
        raise ValueError(f"expected (tokens, {width}) in {file}, got {tuple(embedding.shape)}")
    return embedding.float()
