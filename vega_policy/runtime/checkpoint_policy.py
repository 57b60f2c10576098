"""Any LeRobot checkpoint behind the harness's contract: `reset(seed)`, `act(observation) -> chunk`.

The observation takes the same road as in `lerobot-eval`: LeRobot's own conversion, its LIBERO step (which turns
the pictures upright and builds the state of 8 numbers), then the checkpoint's saved pipelines. So the same
checkpoint gives the same actions for the same observations in both programs.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lerobot.configs.policies import PreTrainedConfig
from lerobot.envs.utils import preprocess_observation
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.processor.env_processor import LiberoProcessorStep

WEIGHTS_FILE = "model.safetensors"


class CheckpointPolicy:
    """A policy loaded from a folder or a Hub id, for one environment at a time.

    Random numbers of policies that draw from torch's global generator are made reproducible: every decision runs
    in a forked generator seeded by the episode's seed and the decision's index.
    """

    def __init__(self, path: str, device: str | None = None) -> None:
        """Loads policy and pipelines.

        Args:
            path: A checkpoint folder (`.../pretrained_model`) or a Hub id.
            device: For example `cuda`; the checkpoint's own when None, or the CPU where that is missing.

        Raises:
            FileNotFoundError: The folder or Hub repository holds no checkpoint.
            ValueError: The weights do not match the configuration.
        """
        import lerobot_policy_vega  # noqa: F401  (registers this package's policy with LeRobot)

        config = PreTrainedConfig.from_pretrained(path)
        if device is not None:
            config.device = device
        config.pretrained_path = Path(path)
        self.policy = get_policy_class(config.type).from_pretrained(path, config=config)
        self.policy.eval()
        overrides = {"device_processor": {"device": str(config.device)}}
        self._preprocess, self._postprocess = make_pre_post_processors(
            config, pretrained_path=path, preprocessor_overrides=overrides
        )
        self._chunk_length = int(getattr(config, "n_action_steps", 1))
        self._seed = self._decision = 0

    def reset(self, seed: int) -> None:
        """Starts an episode: forgets past frames and queued actions."""
        self.policy.reset()
        self._seed, self._decision = seed, 0

    def act(self, observation: Mapping[str, Any]) -> Float[np.ndarray, "chunk action_dim"]:
        """The next actions, as many as the checkpoint's `n_action_steps`, in the environment's units."""
        batch = self._preprocess(self._as_lerobot_batch(observation))
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(_mix(self._seed, self._decision))
            chunk = self.policy.predict_action_chunk(batch)
        self._decision += 1
        actions = self._postprocess(chunk[:, : self._chunk_length])
        return actions[0].cpu().float().numpy()

    @staticmethod
    def _as_lerobot_batch(observation: Mapping[str, Any]) -> dict[str, Any]:
        arrays = {key: _batched(value) for key, value in observation.items() if key != "task_description"}
        converted = LiberoProcessorStep().observation(preprocess_observation(arrays))
        return {**converted, "task": [str(observation.get("task_description", ""))]}


def checkpoint_sha256(folder: Path) -> str:
    """The digest of a checkpoint's weights, which identifies it in results."""
    with (folder / WEIGHTS_FILE).open("rb") as weights:
        return hashlib.file_digest(weights, "sha256").hexdigest()


def _batched(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _batched(inner) for key, inner in value.items()}
    return np.asarray(value)[None]


def _mix(seed: int, decision: int) -> int:
    return int(np.random.SeedSequence((seed, decision)).generate_state(1, np.uint64)[0] >> 1)
