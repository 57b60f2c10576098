"""Settings of short training runs, and what they left."""

import json
from pathlib import Path
from typing import Any

import torch
from lerobot.configs.default import DatasetConfig
from safetensors.torch import load_file

from vega_policy.configuration_vega import VegaConfig
from vega_policy.training.config import TrainConfig


def settings(dataset: Path, policy: VegaConfig, output_dir: Path, **changes: Any) -> TrainConfig:
    data = DatasetConfig(repo_id="local/data", root=str(dataset))
    numbers = {"steps": 4, "batch_size": 4, "log_freq": 1, "save_freq": 2, "num_threads": 1, **changes}
    return TrainConfig(output_dir=output_dir, dataset=data, policy=policy, **numbers)


def losses(output_dir: Path) -> list[tuple[int, float]]:
    lines = (output_dir / "logs" / "metrics.jsonl").read_text().splitlines()
    return [(row["step"], row["train/loss"]) for row in map(json.loads, lines) if "train/loss" in row]


def weights(output_dir: Path, step: int, kind: str = "pretrained_model") -> dict[str, torch.Tensor]:
    return load_file(output_dir / "checkpoints" / f"{step:06d}" / kind / "model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
