"""Where weights come from: a Hub id, a local folder, or an architecture with random weights.

All of diffusers' and transformers' own loading is kept (safetensors only, dtype, revision); what is added
is that a missing or unfitting weight is an error that says what to do, where the libraries warn and go on
with random numbers.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vega_policy.simulators.config import SimulatorConfig

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WEIGHT_FILES = ("config.json", "diffusion_pytorch_model*.safetensors*", "model*.safetensors*")
ROOT = "model"
"""The part that a source with a single model keeps in its root folder."""
OTHER_PRECISIONS = ["*.fp16.*", "*.bf16.*", "*.non_ema.*"]
KNOWN_ARCHITECTURES: dict[str, dict[str, dict[str, Any]]] = {
    # From the configuration files of Wan-AI/Wan2.1-T2V-1.3B-Diffusers: shapes can be checked without them.
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": {
        "transformer": {"num_attention_heads": 12, "num_layers": 30, "ffn_dim": 8960},
        "vae": {},
    },
}


class MissingWeightsError(FileNotFoundError):
    """Weights that a configuration names are not there, or not complete."""


class PartLoader:
    """Loads the parts (sub-folders) of one source, or builds them with random weights.

    Args:
        config: The simulator to load for.
        load_weights: False builds random weights from the source's configuration files alone.
    """

    def __init__(self, config: SimulatorConfig, *, load_weights: bool = True) -> None:
        self.config = config
        self.loads = load_weights and config.loads_weights
        self.dtype = DTYPES[config.dtype]
        self.vae_dtype = DTYPES[config.vae_dtype]

    def diffusers(
        self, cls: Any, part: str, dtype: torch.dtype, overrides: dict[str, Any] | None = None
    ) -> Any:
        """A diffusers model, in evaluation mode.

        Args:
            cls: The model's class.
            part: Its folder in the source.
            dtype: Of its weights, but for modules that the class keeps in float32.
            overrides: Configuration entries that replace the source's.

        Raises:
            MissingWeightsError: The folder, or a weight in it, is not there.
        """
        overrides = overrides or {}
        if not self.loads:
            architecture = {k: v for k, v in self.architecture(part).items() if not k.startswith("_")}
            with seeded_init(self.config.init_seed):
                return _cast(cls(**(architecture | overrides)), dtype).eval()
        model, info = self._from_pretrained(cls, part, torch_dtype=dtype, **overrides)
        self._check_complete(info, part)
        return _own_memory(model).eval()

    def transformers(self, cls: Any, part: str, dtype: torch.dtype) -> Any:
        """A transformers model, in evaluation mode.

        Args:
            cls: The model's class, an `Auto` class included.
            part: Its folder in the source.
            dtype: Of its weights.

        Raises:
            MissingWeightsError: The folder, or a weight in it, is not there.
        """
        if not self.loads:
            from transformers import AutoConfig

            build = cls.from_config if hasattr(cls, "from_config") else cls
            with seeded_init(self.config.init_seed):
                return build(AutoConfig.for_model(**self.architecture(part))).to(dtype).eval()
        model, info = self._from_pretrained(cls, part, dtype=dtype)
        self._check_complete(info, part)
        return _own_memory(model).eval()

    def architecture(self, part: str) -> dict[str, Any]:
        """The configuration of one part: the given one, the source's file, or that of a known id."""
        source = self.config.source
        if source is None:
            return self.config.architecture.get(part, {})
        if source in KNOWN_ARCHITECTURES:
            return KNOWN_ARCHITECTURES[source][part]
        file = self.folder([part], ["config.json"]) / _path(part) / "config.json"
        if not file.is_file():
            raise self.missing(file)
        return json.loads(file.read_text())

    def folder(self, parts: Sequence[str], files: Sequence[str] = WEIGHT_FILES) -> Path:
        """The local folder of the source, fetched from the Hub where it is an id.

        Args:
            parts: Sub-folders needed, or `ROOT`.
            files: Patterns of the files needed in each.

        Raises:
            MissingWeightsError: No such folder, and no such repository within reach.
        """
        source = str(self.config.source)
        local = Path(source).expanduser()
        if local.is_dir():
            return local
        if local.is_absolute() or source.startswith(("./", "../", "~")) or source.count("/") != 1:
            raise self.missing(local)
        return self._snapshot([(_path(part) / file).as_posix() for part in parts for file in files])

    def missing(self, looked_in: Path | str, detail: str = "") -> MissingWeightsError:
        """The error for weights that are not where they were looked for."""
        revision = f" (revision {self.config.revision})" if self.config.revision else ""
        return MissingWeightsError(
            f"expected weights of simulator {self.config.name!r} from {str(self.config.source)!r}{revision}, "
            f"found none in {looked_in}{': ' + detail if detail else ''}. Fetch them with `hf download <id> "
            "--local-dir <folder>` and set simulator.source to that folder, or use the tiny alternative, "
            "which needs none: vega_policy.simulators.tiny_wan_config(), as in configs/policy/vega_tiny.yaml"
        )

    def _snapshot(self, patterns: list[str]) -> Path:
        from huggingface_hub import constants, snapshot_download

        try:
            found = snapshot_download(
                str(self.config.source),
                revision=self.config.revision,
                allow_patterns=patterns,
                ignore_patterns=OTHER_PRECISIONS,
            )
        except OSError as error:  # offline, no such repository, gated: all of huggingface_hub's are OSError
            raise self.missing(f"the Hub cache {constants.HF_HUB_CACHE}", type(error).__name__) from error
        return Path(found)

    def _from_pretrained(self, cls: Any, part: str, **options: Any) -> tuple[nn.Module, Any]:
        folder = self.folder([part]) / _path(part)
        if not (folder / "config.json").is_file():
            raise self.missing(folder)
        try:
            return cls.from_pretrained(folder, use_safetensors=True, output_loading_info=True, **options)
        except OSError as error:
            raise self.missing(folder, str(error)) from error

    def _check_complete(self, info: Any, part: str) -> None:
        missing = sorted(info["missing_keys"])
        if missing:
            raise self.missing(
                Path(str(self.config.source)) / part, f"{len(missing)} keys missing: {missing[:5]}"
            )


def _path(part: str) -> Path:
    return Path() if part == ROOT else Path(part)


@contextmanager
def seeded_init(seed: int) -> Iterator[None]:
    """Within it, modules initialise from `seed`; the global generator is as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _cast(model: Any, dtype: torch.dtype) -> Any:
    """Casts as diffusers' from_pretrained does, which keeps some modules in float32."""
    kept = set(model._keep_in_fp32_modules or [])
    for name, parameter in model.named_parameters():
        if not kept & set(name.split(".")):
            parameter.data = parameter.data.to(dtype)
    return model


def _own_memory(model: nn.Module) -> nn.Module:
    """Copies weights out of the mapped file: its 8-byte alignment makes CPU kernels round differently."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model
