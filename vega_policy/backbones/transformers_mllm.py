"""A backbone made of a stock transformers MLLM and the fusion, read at action slots.

The sequence is put together here rather than by the MLLM's own forward pass: word embeddings, visual tokens
in place of their placeholders, proprioception, empty slots; then the language model alone, with an explicit
mask and explicit positions. That is one path for all families and avoids what silently goes wrong on the
others: positions of plain text, lost DeepStack features, placeholders found by comparing embeddings, a
`rope_deltas` remembered from the last call.
"""

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from vega_policy.backbones.attention import slot_mask
from vega_policy.backbones.base import Backbone, PromptTokens, Reading
from vega_policy.backbones.config import BackboneConfig
from vega_policy.backbones.families import family_named
from vega_policy.backbones.families.base import Seen
from vega_policy.backbones.fused import FusedMLLM
from vega_policy.backbones.loading import ATTENTION, Loaded, load_mllm
from vega_policy.backbones.training import linears_inside, make_trainable
from vega_policy.backbones.words import REQUEST
from vega_policy.fusion_config import FusionConfig
from vega_policy.simulators.loading import seeded_init


class TransformersBackbone(Backbone):
    """Any of the families in `vega_policy.backbones.families`.

    Attributes:
        fused: The stock MLLM with the second stream; its `generate` answers questions.
        tokenizer: The stock tokenizer, or the word tokenizer of a model trained from scratch.
    """

    fused: FusedMLLM
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        loaded: Loaded,
        fusion: FusionConfig,
        generative_dim: int,
        image_size_px: int | None = None,
        causal_prefix: bool | None = None,
    ) -> None:
        super().__init__()
        self.fused = FusedMLLM(loaded.mllm, fusion, generative_dim)
        self.tokenizer = loaded.tokenizer
        self.family = self.fused.family
        stock = loaded.mllm.config
        _require_attention(stock.get_text_config()._attn_implementation)
        self.hidden_dim = stock.get_text_config().hidden_size
        self.causal_prefix = self.family.causal_prefix if causal_prefix is None else causal_prefix
        self.image_size_px = image_size_px or self.family.default_image_size_px(stock)
        self.grid = self.family.grid(stock, self.image_size_px)
        self.placeholders = self.family.placeholders(self.grid)
        self.image_token_id = self.tokenizer.convert_tokens_to_ids(self.family.image_token)
        for name, value in (("mean", loaded.mean), ("std", loaded.std)):
            self.register_buffer(name, torch.tensor(value).view(3, 1, 1), persistent=False)

    def prompt(self, tasks: Sequence[str], cameras: int) -> PromptTokens:
        """OpenVLA's question about each task in the family's chat template."""
        distinct = list(dict.fromkeys(tasks))  # a large batch has few, and a text takes 0.4 ms
        requests = (REQUEST.format(task=task) for task in distinct)
        texts = [self.family.prompt(request, cameras, self.placeholders) for request in requests]
        encoded = self.tokenizer(
            texts, padding=True, padding_side="left", add_special_tokens=False, return_tensors="pt"
        )
        tokens = PromptTokens(encoded["input_ids"], encoded["attention_mask"].bool())
        self._require_placeholders(tokens, cameras)
        rows = torch.tensor([distinct.index(task) for task in tasks])
        return PromptTokens(tokens.ids[rows], tokens.mask[rows])

    def read(
        self,
        images: Float[Tensor, "batch cameras 3 height width"],
        generative: Float[Tensor, "batch cameras n dim_generative"] | None,
        prompt: PromptTokens,
        proprio: Float[Tensor, "batch tokens dim"] | None,
        slots: Float[Tensor, "slots dim"],
    ) -> Reading:
        """See `Backbone.read`; slots are read at their own positions, in float32."""
        self._require_fit(images, prompt)
        seen = self._see(images, generative)
        is_image = prompt.ids == self.image_token_id
        embedded = [self._embed(prompt.ids, is_image, seen)]
        if proprio is not None:
            embedded.append(proprio.to(embedded[0].dtype))
        prefix_mask = _lengthened(prompt.mask, 0 if proprio is None else proprio.shape[1])
        length = prefix_mask.shape[1]
        embedded.append(slots.to(embedded[0].dtype).expand(len(images), -1, -1))
        hidden = self._think(torch.cat(embedded, dim=1), seen, is_image, prompt.mask, prefix_mask)
        gate = None if generative is None else self.fused.gate
        return Reading(hidden[:, length:], hidden[:, :length], prefix_mask, gate)

    def lora_targets(self, prefix: str) -> str:
        """See `Backbone.lora_targets`."""
        return linears_inside(self, self._language_model, prefix)

    @property
    def _language_model(self) -> Any:
        return self.family.language_model(self.fused.stock)

    def _see(self, images: Tensor, generative: Tensor | None) -> Seen:
        flat = rearrange((images - self.mean) / self.std, "b cameras c h w -> (b cameras) c h w")
        stock = self.fused.stock
        with self.fused.stream(generative):
            return self.family.see(stock, flat.to(stock.dtype))

    def _embed(
        self, ids: Int[Tensor, "batch length"], is_image: Bool[Tensor, "batch length"], seen: Seen
    ) -> Float[Tensor, "batch length dim"]:
        """Word embeddings with the visual tokens in place; a placeholder's id may lie outside the table."""
        words = self._language_model.get_input_embeddings()(ids.masked_fill(is_image, 0))
        return words.masked_scatter(is_image[..., None], seen.tokens.to(words.dtype))

    def _think(
        self,
        embedded: Float[Tensor, "batch total dim"],
        seen: Seen,
        is_image: Bool[Tensor, "batch length"],
        prompt_mask: Bool[Tensor, "batch length"],
        prefix_mask: Bool[Tensor, "batch prefix"],
    ) -> Float[Tensor, "batch total dim"]:
        """The language model's last layer, after its final norm, in float32."""
        total, prompt_length = embedded.shape[1], prompt_mask.shape[1]
        output = self._language_model(
            inputs_embeds=embedded,
            attention_mask=slot_mask(
                prefix_mask, total - prefix_mask.shape[1], causal_prefix=self.causal_prefix
            ),
            position_ids=self.family.positions(
                is_image.long(), prompt_mask.long(), self.grid, total - prompt_length
            ),
            use_cache=False,
            **self.family.deeper_inputs(seen, pad(is_image, (0, total - prompt_length))),
        )
        return output.last_hidden_state.float()

    def _require_placeholders(self, tokens: PromptTokens, cameras: int) -> None:
        expected = cameras * self.placeholders
        found = (tokens.ids == self.image_token_id).sum(-1)
        if not bool((found == expected).all()):
            raise ValueError(
                f"expected {expected} tokens {self.family.image_token!r} in every prompt ({cameras} images "
                f"of {self.placeholders}), got {found.tolist()}: make the prompt for as many cameras, with a "
                "tokenizer that knows this special token"
            )

    def _require_fit(self, images: Tensor, prompt: PromptTokens) -> None:
        batch, cameras = images.shape[:2]
        size = (3, self.image_size_px, self.image_size_px)
        if images.ndim != 5 or tuple(images.shape[2:]) != size:
            raise ValueError(
                f"expected images of shape (batch, cameras, {', '.join(map(str, size))}), "
                f"got {tuple(images.shape)}"
            )
        if prompt.ids.shape != prompt.mask.shape or len(prompt.ids) != batch:
            raise ValueError(f"expected {batch} prompts for {batch} samples, got {tuple(prompt.ids.shape)}")
        if prompt.ids.device.type == "cpu":  # elsewhere the comparison would wait for the device
            self._require_placeholders(prompt, cameras)


def build(
    config: BackboneConfig, fusion: FusionConfig, generative_dim: int, *, load_weights: bool
) -> TransformersBackbone:
    """See `vega_policy.backbones.build_backbone`."""
    with seeded_init(config.init_seed):
        loaded = load_mllm(config, family_named(config.family), load_weights=load_weights)
        backbone = TransformersBackbone(
            loaded, fusion, generative_dim, config.image_size_px, config.causal_prefix
        )
        make_trainable(backbone.fused, config)
    return backbone


def _lengthened(mask: Bool[Tensor, "batch length"], extra: int) -> Bool[Tensor, "batch total"]:
    return torch.cat([mask, mask.new_ones(len(mask), extra)], dim=1)


def _require_attention(implementation: str) -> None:
    if implementation != ATTENTION:
        raise ValueError(
            f"expected an MLLM with attn_implementation={ATTENTION!r}, got {implementation!r}, which "
            "misreads the boolean mask over action slots: load it with the former"
        )
