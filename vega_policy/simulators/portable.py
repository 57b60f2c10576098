"""A configuration without the folder that its weights came from, for checkpoints that hold the weights.

Weights on the Hub can be fetched again by their id; a folder on the machine that trained cannot. A checkpoint
stores such a simulator whole: the weights in its own file, and here the architecture in place of the folder.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from vega_policy.simulators.config import SimulatorConfig

ROOT_PART = ("model",)
PARTS = {
    "wan": ("vae", "transformer"),
    "svd": ("vae", "unet", "image_encoder"),
    "stable_diffusion": ("vae", "unet"),
    "vae": ("vae",),
    "vjepa2": ROOT_PART,
    "dino": ROOT_PART,
}
"""The parts that each backbone is built from."""


def portable(config: SimulatorConfig) -> SimulatorConfig:
    """The configuration with a local source replaced by its architecture; others as they are.

    Args:
        config: Its source, if it is a folder, is read: the configuration files, not the weights.

    Raises:
        MissingWeightsError: A configuration file is missing in the folder.
    """
    if config.source is None or not Path(config.source).expanduser().is_dir():
        return config
    return replace(config, source=None, revision=None, architecture=_architecture(config))


def _architecture(config: SimulatorConfig) -> dict[str, dict[str, Any]]:
    from vega_policy.simulators.loading import PartLoader

    if config.name == "wan":
        from vega_policy.simulators.wan_original import architecture, is_original

        folder = Path(str(config.source)).expanduser()
        if is_original(folder):
            return architecture(folder)
    parts = PartLoader(config)
    return {part: parts.architecture(part) for part in PARTS[config.name]}
