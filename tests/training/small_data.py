"""A dataset of a few small episodes, and a policy that fits it, for everything that trains."""

from pathlib import Path
from typing import Any

import numpy as np

from vega_policy.backbones.config import tiny_smolvlm_config
from vega_policy.configuration_vega import VegaConfig
from vega_policy.heads.config import HeadConfig
from vega_policy.rollouts.recording import EpisodeWriter, read_recording
from vega_policy.simulators.config import tiny_wan_config
from vega_policy.training.demonstrations import Demonstration, write_dataset
from vega_policy.training.libero_data import ACTION_KEY, IMAGE_KEYS, STATE_KEY

SIZE_PX = 32
LENGTHS = (9, 12, 11)
TASKS = ("open the drawer", "close the drawer", "open the drawer")


def make_dataset(root: Path, seed: int = 0, environment: dict[str, Any] | None = None) -> Path:
    """Three episodes of two tasks in noisy pictures; `environment` is where they say they come from."""
    rng, made = np.random.default_rng(seed), []
    for episode, (length, task) in enumerate(zip(LENGTHS, TASKS, strict=True)):
        path = root.with_name(f"{root.name}.recordings") / str(episode)
        writer = EpisodeWriter(path, 20)
        for _ in range(length):
            pictures = {
                key: rng.integers(0, 256, (SIZE_PX, SIZE_PX, 3), np.uint8) for key in IMAGE_KEYS.values()
            }
            vectors = {STATE_KEY: rng.standard_normal(8), ACTION_KEY: rng.uniform(-1, 1, 7)}
            writer.add({**pictures, **vectors})
        writer.finish({"seed": episode})
        found = read_recording(path)
        made.append(Demonstration(task, found.columns, found.films, found.histograms, found.facts))
    write_dataset(root, made, SIZE_PX, {"seed": seed, "environment": environment or {}})
    return root


def make_policy_config() -> VegaConfig:
    """A policy of a few ten thousand weights."""
    backbone = tiny_smolvlm_config(sorted({word for task in TASKS for word in task.split()}))
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2}
    backbone.architecture = {
        "vision_config": {
            "hidden_size": 16, "intermediate_size": 32, "image_size": SIZE_PX, "patch_size": 8, **layers
        },
        "text_config": {"hidden_size": 32, "intermediate_size": 48, "num_key_value_heads": 1, **layers},
        "scale_factor": 2,
    }  # fmt: skip
    return VegaConfig(
        device="cpu",
        chunk_size=4,
        n_action_steps=4,
        simulator=tiny_wan_config(image_size_px=SIZE_PX, block=1),
        backbone=backbone,
        head=HeadConfig(slots="per_step", width=16),
        optimizer_lr=3e-3,
        scheduler_warmup_steps=1,
    )
