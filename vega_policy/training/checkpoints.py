"""Checkpoints that are either complete or not there, and the newest one to go on from.

A checkpoint is written beside its place and renamed; the link `last` changes in one step as well. A run that
is killed at any moment leaves its last complete checkpoint usable.
"""

import shutil
from pathlib import Path
from typing import Any

from lerobot.common.train_utils import save_checkpoint
from lerobot.utils.constants import (
    CHECKPOINTS_DIR,
    LAST_CHECKPOINT_LINK,
    PRETRAINED_MODEL_DIR,
    TRAINING_STATE_DIR,
)
from safetensors.torch import load_file, save_file

from vega_policy.training.averaging import WeightAverage
from vega_policy.training.files import PARTIAL, in_one_step, remove

AVERAGED_MODEL_DIR = "averaged_model"
"""A policy like `pretrained_model`, with the averaged weights: the one to deploy."""

AVERAGE_FILE = "weight_average.safetensors"


def save_atomically(checkpoint_dir: Path, average: WeightAverage | None, **parts: Any) -> None:
    """LeRobot's checkpoint and the averaged policy, complete or not at all.

    Args:
        checkpoint_dir: Where it is to be; one that is there already is replaced.
        average: The averaged weights, if any are kept.
        parts: The other arguments of LeRobot's `save_checkpoint`.
    """
    with in_one_step(checkpoint_dir) as partial:
        save_checkpoint(checkpoint_dir=partial, **parts)
        if average is not None:
            _save_average(partial, average, parts)


def _save_average(folder: Path, average: WeightAverage, parts: dict[str, Any]) -> None:
    raw, averaged = folder / PRETRAINED_MODEL_DIR, folder / AVERAGED_MODEL_DIR
    save_file(average.state_dict(), folder / TRAINING_STATE_DIR / AVERAGE_FILE)
    shutil.copytree(raw, averaged)
    with average.in_place():
        parts["policy"].save_pretrained(averaged)


def load_average(checkpoint_dir: Path, average: WeightAverage) -> None:
    """Go on with the average of a checkpoint.

    Raises:
        FileNotFoundError: If the checkpoint was written without one.
    """
    file = checkpoint_dir / TRAINING_STATE_DIR / AVERAGE_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{checkpoint_dir} has no averaged weights: resume with the same ema_decay")
    average.load_state_dict(load_file(file))


def link_last(checkpoint_dir: Path) -> Path:
    """Let the link `last` point at a checkpoint, in one step."""
    link = checkpoint_dir.with_name(LAST_CHECKPOINT_LINK)
    with in_one_step(link) as new_link:
        new_link.symlink_to(checkpoint_dir.name)
    return link


def newest_checkpoint(output_dir: Path) -> Path | None:
    """The last complete checkpoint of a run; None before the first."""
    folder = output_dir / CHECKPOINTS_DIR
    complete = [path for path in folder.glob("*") if path.name.isdigit() and path.is_dir()]
    return max(complete, key=lambda path: int(path.name), default=None)


def remove_unfinished(output_dir: Path) -> None:
    """Remove what a killed run had begun to write and will not finish."""
    for path in (output_dir / CHECKPOINTS_DIR).glob(f"*{PARTIAL}"):
        remove(path)
