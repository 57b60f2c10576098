"""Encoders that generate nothing, for comparison: V-JEPA 2 (clips) and DINO v2 and v3 (pictures).

They take no noise. What is read is the last hidden state, of picture patches alone.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModel, PreTrainedModel

from vega_policy.simulators.base import Backbone
from vega_policy.simulators.geometry import normalise
from vega_policy.simulators.loading import ROOT, PartLoader

DINO_FAMILIES = ("dinov2", "dinov2_with_registers", "dinov3_vit")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class DinoBackbone(Backbone):
    """DINO's patch tokens of the newest frame; the class and register tokens before them are dropped."""

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self._dtype = model, dtype
        self.dim, self.token_px = model.config.hidden_size, model.config.patch_size
        self._num_extra = 1 + getattr(model.config, "num_register_tokens", 0)

    def forward(
        self, canvas: Float[Tensor, "batch time 3 side side"]
    ) -> Float[Tensor, "batch rows cols dim"]:
        """The patch tokens of the newest frame."""
        pixels = normalise(canvas[:, -1], IMAGENET_MEAN, IMAGENET_STD).to(self._dtype)
        side = canvas.shape[-1] // self.token_px
        tokens = self.model(pixels).last_hidden_state[:, self._num_extra :]
        return tokens.unflatten(1, (side, side))


class VJepaBackbone(Backbone):
    """V-JEPA 2's tokens of the newest pair of frames, having attended to the whole clip.

    A clip of odd length begins with its oldest frame twice, so that the newest frame is never dropped.
    """

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self._dtype = model.encoder, dtype  # its predictor is not read
        self.dim, self.token_px = model.config.hidden_size, model.config.patch_size
        self._tubelet_frames = model.config.tubelet_size

    def forward(
        self, canvas: Float[Tensor, "batch time 3 side side"]
    ) -> Float[Tensor, "batch rows cols dim"]:
        """The newest tubelet's tokens."""
        num_missing = -canvas.shape[1] % self._tubelet_frames
        clips = torch.cat([canvas[:, :1].expand(-1, num_missing, -1, -1, -1), canvas], dim=1)
        pixels = normalise(clips, IMAGENET_MEAN, IMAGENET_STD).to(self._dtype)
        side = canvas.shape[-1] // self.token_px
        hidden = self.model(pixel_values_videos=pixels).last_hidden_state
        return hidden.unflatten(1, (-1, side, side))[:, -1]


def build(parts: PartLoader) -> Backbone:
    """A transformers model by its configuration's model type.

    Raises:
        ValueError: The weights are of a family that `config.name` does not name, or of another picture size.
    """
    model = parts.transformers(AutoModel, ROOT, parts.dtype)
    family = model.config.model_type
    if parts.config.name == "vjepa2" and family == "vjepa2":
        _refuse_other_size(model.config.crop_size, parts.config.image_size_px)
        return VJepaBackbone(model, parts.dtype)
    if parts.config.name == "dino" and family in DINO_FAMILIES:
        return DinoBackbone(model, parts.dtype)
    raise ValueError(
        f"expected a model of type vjepa2 for simulator vjepa2, or {' or '.join(DINO_FAMILIES)} for dino; "
        f"got {family!r} for {parts.config.name!r} from {parts.config.source or 'architecture'}"
    )


def _refuse_other_size(trained_px: int, asked_px: int) -> None:
    """V-JEPA 2 counts rows and columns by its configuration's size, whatever comes in."""
    if trained_px != asked_px:
        raise ValueError(
            f"expected simulator.image_size_px={trained_px}, the size of these V-JEPA 2 weights, got "
            f"{asked_px}: its rotary positions would be wrong"
        )
