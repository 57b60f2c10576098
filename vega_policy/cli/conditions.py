"""Whether a policy acts under the conditions that it was trained under."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WHAT = {
    "assets": "assets",
    "assets_hash": "files of the assets",
    "protocol": "protocol",
    "image_size_px": "picture size in pixels",
}
"""Conditions that are compared, and what they are called."""


def training_conditions(checkpoint: str | None) -> Mapping[str, Any]:
    """What a checkpoint says of its training; nothing for a policy that was not trained."""
    found: Mapping[str, Any] = _settings(checkpoint).get("trained_with") or {}
    return found


def own_device(checkpoint: str | None) -> str | None:
    """What a policy computes on unless told otherwise: the CPU without one, None for torch's best."""
    return "cpu" if checkpoint is None else _settings(checkpoint).get("device")


def _settings(checkpoint: str | None) -> dict[str, Any]:
    file = Path(checkpoint or "") / "config.json"
    is_there = checkpoint is not None and file.is_file()
    return dict(json.loads(file.read_text(encoding="utf-8"))) if is_there else {}


def differences(trained_with: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One sentence for each condition that is not that of the training.

    Args:
        trained_with: The training's conditions; what it does not tell is not compared.
        now: The environment's.
    """
    return [
        f"the policy was trained with {name} {trained_with[key]}, here it is {now[key]}"
        for key, name in WHAT.items()
        if key in trained_with and key in now and trained_with[key] != now[key]
    ]
