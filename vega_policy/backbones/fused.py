"""The plug: a second visual stream for a stock transformers MLLM, which is neither edited nor patched.

A forward hook on the module that makes the MLLM's visual tokens replaces them with fused ones, so that
`forward`, `generate`, gradient checkpointing and adapters all see them. The hook is an object held by the
module that owns both the MLLM and the fusion: copying that owner copies all three together.

Example:
    mllm = AutoModelForImageTextToText.from_pretrained("Qwen/Qwen2.5-VL-3B-Instruct")
    fused = FusedMLLM(mllm, FusionConfig(), generative_dim=1536)
    answer = fused.generate(simulator_tokens, **processor(images=image, text=question, return_tensors="pt"))
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vega_policy.backbones.families import family_named
from vega_policy.backbones.families.base import Family
from vega_policy.backbones.loading import require_transformers
from vega_policy.fusion import Fused, build_fusion
from vega_policy.fusion_config import FusionConfig

Stream = Float[Tensor, "batch cameras n dim_generative"]


class FusedMLLM(nn.Module):
    """A stock `XForConditionalGeneration` and the fusion that its visual tokens pass through.

    Without a second stream the MLLM computes exactly what it did before.

    Attributes:
        mllm: The stock model, or peft's wrapper of it.
        fusion: In float32 whatever the MLLM's dtype.
        family: What is particular to the MLLM's family.

    Args:
        mllm: A model of one of the supported families.
        fusion: Which fusion.
        generative_dim: Width of the second stream's tokens.

    Raises:
        ValueError: The family is unknown.
        ImportError: The installed transformers is not the one this package was written for.
    """

    mllm: Any

    def __init__(self, mllm: Any, fusion: FusionConfig, generative_dim: int) -> None:
        super().__init__()
        require_transformers()
        self.family = family_named(mllm.config.model_type)
        self.mllm = mllm
        width = mllm.config.get_text_config().hidden_size
        self.fusion = build_fusion(fusion, semantic_dim=width, generative_dim=generative_dim)
        self._hook = FusionHook(self)
        self.family.fused_module(self.stock).register_forward_hook(self._hook)

    @property
    def stock(self) -> Any:
        """The headless transformers model, under peft's wrapper too."""
        mllm = self.mllm.get_base_model() if hasattr(self.mllm, "get_base_model") else self.mllm
        return mllm.model

    @property
    def gate(self) -> Float[Tensor, "batch cameras n"] | None:
        """The last gate, detached; None if the fusion has none or has not run."""
        return self._hook.gate

    @contextmanager
    def stream(self, generative: Stream | None) -> Iterator[None]:
        """Within it, the MLLM's visual tokens are fused with `generative`.

        Args:
            generative: One token grid per image of each sample, in the order of the prompt's images; None
                leaves the MLLM as it was.

        Raises:
            RuntimeError: On leaving, if no image was looked at, so that nothing was fused.
        """
        self._hook.open(generative)
        try:
            yield
            self._hook.require_used()
        finally:
            self._hook.close()

    def forward(self, generative: Stream | None, **inputs: Any) -> Any:
        """The MLLM's forward pass on its processor's `inputs`."""
        with self.stream(generative):
            return self.mllm(**inputs)

    def generate(self, generative: Stream | None, **inputs: Any) -> Any:
        """The MLLM's `generate` on its processor's `inputs`, beams and several returned sequences included.

        Raises:
            ValueError: For several sequences and several images per sample, in families whose stock
                `generate` mixes up the images of one sample.
        """
        with self.stream(self._repeated(generative, inputs)):
            return self.mllm.generate(**inputs)

    def _repeated(self, generative: Stream | None, inputs: dict[str, Any]) -> Stream | None:
        """`generate` repeats every sample before the vision tower runs; the second stream must follow."""
        settings = inputs.get("generation_config") or self.mllm.generation_config
        options = ("num_beams", "num_return_sequences")
        copies = max(inputs.get(name) or getattr(settings, name, None) or 1 for name in options)
        if generative is None or copies == 1:
            return generative
        if generative.shape[1] > 1 and not self.family.repeats_whole_samples:
            raise ValueError(
                f"expected one image per sample or one sequence, got {generative.shape[1]} images and "
                f"{copies} sequences: transformers' generate mixes up the images of one sample in "
                f"{self.family.model_type}"
            )
        return generative.repeat_interleave(copies, dim=0)


class FusionHook:
    """What runs behind the MLLM's projector. Not a closure: copies of the owner must not share it.

    The owner is asked for its fusion each time: peft's `modules_to_save` puts another in its place.
    """

    def __init__(self, owner: FusedMLLM) -> None:
        self._owner = owner
        self.gate: Float[Tensor, "batch cameras n"] | None = None
        self._generative: Stream | None = None
        self._used = False

    def open(self, generative: Stream | None) -> None:
        """From now on, fuse with `generative`."""
        if generative is not None and generative.ndim != 4:
            raise ValueError(
                f"expected generative tokens of shape (batch, cameras, n, dim), got {tuple(generative.shape)}"
            )
        self._generative, self._used, self.gate = generative, False, None

    def close(self) -> None:
        """From now on, leave the MLLM's tokens alone."""
        self._generative = None

    def require_used(self) -> None:
        """Complains if there was something to fuse and nothing to fuse it with."""
        if self._generative is not None and not self._used:
            raise RuntimeError(
                "the second stream was given but the MLLM looked at no image: give it images, and do not "
                "replace or copy its projector (peft's modules_to_save) without the FusedMLLM around it"
            )

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:  # noqa: ARG002
        """Replaces the projected visual tokens in `output`."""
        if self._generative is None:
            return output
        family: Family = self._owner.family
        semantic = family.tokens_of(output)
        generative = rearrange(self._generative, "batch cameras n dim -> (batch cameras) n dim")
        self._require_fit(semantic, generative)
        fused: Fused = self._owner.fusion(
            semantic.reshape(*generative.shape[:2], -1), generative.to(semantic.device)
        )
        self._used = True
        if fused.gate is not None:
            self.gate = fused.gate.detach().reshape(self._generative.shape[:3])
        return family.with_tokens(output, fused.tokens.reshape(semantic.shape))

    def _require_fit(self, semantic: Tensor, generative: Tensor) -> None:
        expected, got = semantic.shape[:-1], generative.shape[:2]
        fits = expected == got if len(expected) == 2 else expected.numel() == got.numel()
        if not fits:
            raise ValueError(
                f"expected generative tokens for the MLLM's {tuple(expected)} visual tokens (images, n), "
                f"got {tuple(got)}: resize the TokenGrid to the MLLM's grid, and process every image as "
                "one tile (no image splitting, no mosaic)"
            )
