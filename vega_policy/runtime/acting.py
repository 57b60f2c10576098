"""Any LeRobot policy behind the harness's contract: `reset(seed)`, `act(observation) -> chunk`.

The observation takes the same road as in `lerobot-eval`: LeRobot's own conversion, its LIBERO step (which
turns the pictures upright and builds the state of 8 numbers), then the policy's pipelines. So the same
checkpoint gives the same actions for the same observations in both programs.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from lerobot.configs.policies import PreTrainedConfig
from lerobot.envs.utils import preprocess_observation
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.processor.env_processor import LiberoProcessorStep
from lerobot.utils.constants import ACTION

from vega_policy.configuration_vega import VegaConfig, libero_features
from vega_policy.modeling_vega import VegaPolicy
from vega_policy.processor_vega import make_vega_pre_post_processors
from vega_policy.runtime.specs import AHEAD, DELAY, paths

CHUNK_PLAYERS = ("vega", "act", "pi0", "pi05", "smolvla")
"""Policies whose `select_action` plays the first `n_action_steps` of a predicted chunk and does nothing else.
All others (observation histories, temporal ensembles) are asked for one action at each control step."""

NOT_SEEN = ("task_description", "ahead")  # parts of an observation that are neither picture nor state


class ActingPolicy:
    """A policy and its pipelines, for one environment at a time.

    Policies that draw from torch's global generator act reproducibly too: every decision runs in a forked
    generator seeded by the episode's seed and the decision's index.
    """

    def __init__(
        self, policy: PreTrainedPolicy, preprocess: Any, postprocess: Any, num_actions: int | None = None
    ) -> None:
        self._policy = policy.eval()
        self._preprocess = preprocess
        self._postprocess = postprocess
        self._plays_chunks = _plays_chunks(policy.config)
        self._num_actions = num_actions or (policy.config.n_action_steps if self._plays_chunks else 1)
        self._seed = self._decision = 0

    @classmethod
    def from_checkpoint(cls, path: str, device: str | None = None) -> Self:
        """Loads a trained policy.

        Args:
            path: A checkpoint folder (`.../pretrained_model`) or a Hub id.
            device: For example `cuda`; the checkpoint's own when None, or the CPU where that is missing.

        Raises:
            FileNotFoundError: There is no checkpoint at `path`.
            ValueError: The weights do not match the configuration.
        """
        config = PreTrainedConfig.from_pretrained(path)
        config.device = device or config.device
        config.pretrained_path = Path(path)
        policy = get_policy_class(config.type).from_pretrained(path, config=config)
        overrides = {"device_processor": {"device": str(config.device)}}
        pipelines = make_pre_post_processors(config, pretrained_path=path, preprocessor_overrides=overrides)
        return cls(policy, *pipelines)

    @classmethod
    def untrained(cls, config: VegaConfig) -> Self:
        """Builds a VEGA policy for LIBERO with the weights that its parts start from, the same each time."""
        config.input_features, config.output_features = libero_features()
        with torch.random.fork_rng(devices=[]):  # the head's weights come from torch's global generator
            torch.manual_seed(config.seed)
            policy = VegaPolicy(config).to(config.device)
        return cls(policy, *make_vega_pre_post_processors(config))

    @property
    def config(self) -> PreTrainedConfig:
        """The policy's configuration."""
        return self._policy.config

    @property
    def continues_chunks(self) -> bool:
        """Whether the policy makes its next chunk go on from the one being played (real-time chunking)."""
        settings = getattr(self.config, "rtc_config", None)
        return self._policy.supports_rtc() and settings is not None and settings.enabled

    def fork(self) -> Self:
        """The same weights, in the same memory, for another episode at the same time."""
        return self._giving(self._num_actions)

    def with_whole_chunks(self) -> Self:
        """The same policy, for players that decide themselves how much of a chunk they play."""
        return self._giving(self._policy.config.chunk_size if self._plays_chunks else 1)

    def _giving(self, num_actions: int) -> Self:
        return type(self)(copy.copy(self._policy), self._preprocess, self._postprocess, num_actions)

    def reset(self, seed: int) -> None:
        """Starts an episode: forgets past frames and queued actions."""
        self._policy.reset()
        self._seed, self._decision = seed, 0

    def act(self, observation: Mapping[str, Any]) -> Float[np.ndarray, "chunk action_dim"]:
        """The next actions in the environment's units, [-1, 1] for LIBERO.

        As many as `n_action_steps` says, all of a chunk (`with_whole_chunks`), or one at a time.
        """
        return self.act_together([observation])[0]

    def act_together(
        self, observations: Sequence[Mapping[str, Any]]
    ) -> Float[np.ndarray, "episodes chunk action_dim"]:
        """Chunks for the observations of several episodes, which began together.

        An observation with the parts `specs.AHEAD` and `specs.DELAY` is continued, where the policy can and
        it comes alone.
        """
        batch = self._preprocess(as_lerobot_batch(*observations))
        continued = self._continued(observations)
        with torch.random.fork_rng(devices=[]), torch.no_grad():  # guidance needs gradients
            torch.manual_seed(_mix(self._seed, self._decision))
            chunk = self._chunk(batch, continued)
        self._decision += 1
        actions: torch.Tensor = self._postprocess(chunk)
        return actions.cpu().float().numpy()

    def _chunk(self, batch: dict[str, Any], continued: dict[str, Any]) -> torch.Tensor:
        if not self._plays_chunks:
            return self._policy.select_action(batch)[:, None]
        return self._policy.predict_action_chunk(batch, **continued)[:, : self._num_actions]

    def _continued(self, observations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """LeRobot's arguments of real-time chunking; the actions take the way of those of a dataset."""
        parts = dict(paths(observations[0]))
        if len(observations) > 1 or AHEAD not in parts or not self.continues_chunks:
            return {}
        ahead = torch.as_tensor(np.asarray(parts[AHEAD], np.float32))[None]
        batch = self._preprocess({**as_lerobot_batch(*observations), ACTION: ahead})
        return {"prev_chunk_left_over": batch[ACTION], "inference_delay": int(parts[DELAY])}


def _plays_chunks(config: PreTrainedConfig) -> bool:
    """Whether playing chunks gives the actions that `lerobot-eval` would get one by one."""
    return config.type in CHUNK_PLAYERS and getattr(config, "temporal_ensemble_coeff", None) is None


def as_lerobot_batch(*observations: Mapping[str, Any]) -> dict[str, Any]:
    """LIBERO observations as `lerobot-eval` would hand them to a policy's pre-processor, in one batch."""
    arrays = [{key: o[key] for key in o if key not in NOT_SEEN} for o in observations]
    converted = LiberoProcessorStep().observation(preprocess_observation(_stacked(arrays)))
    return {**converted, "task": [str(o.get("task_description", "")) for o in observations]}


def _stacked(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Mapping):
        return {key: _stacked([value[key] for value in values]) for key in values[0]}
    return np.stack(values)


def _mix(seed: int, decision: int) -> int:
    """A seed of 63 bits that differs for every decision of every episode."""
    return int(np.random.SeedSequence((seed, decision)).generate_state(1, np.uint64)[0] >> 1)
