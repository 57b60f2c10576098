"""LeRobot's pre- and post-processing pipelines for VEGA policies, saved in every checkpoint.

Images pass untouched: squaring and resizing happen once, inside the policy, so that the multimodal LLM and
the world simulator see the same pixels. States and actions go to [-1, 1] by the dataset's true 1st and 99th
percentiles and are clipped there. The gripper's command is a sign and is left alone: its quantiles are
replaced by -1 and 1, for which LeRobot's normaliser is the identity.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lerobot.configs.types import PipelineFeatureType, PolicyFeature
from lerobot.lerobot_types import EnvTransition, TransitionKey
from lerobot.processor import (
    AddBatchDimensionProcessorStep,
    DeviceProcessorStep,
    NormalizerProcessorStep,
    PolicyAction,
    PolicyProcessorPipeline,
    ProcessorStep,
    ProcessorStepRegistry,
    RenameObservationsProcessorStep,
    UnnormalizerProcessorStep,
)
from lerobot.processor.factory import make_policy_processor_pipelines
from lerobot.utils.constants import ACTION, OBS_STATE

from vega_policy.configuration_vega import VegaConfig
from vega_policy.quantiles import dataset_quantiles

Stats = dict[str, dict[str, Any]]
Pipelines = tuple[
    PolicyProcessorPipeline[dict[str, Any], dict[str, Any]],
    PolicyProcessorPipeline[PolicyAction, PolicyAction],
]


@ProcessorStepRegistry.register(name="vega_clip")
@dataclass
class ClipProcessorStep(ProcessorStep):
    """Clamps the normalised state and action to [-limit, limit], the range trained on."""

    limit: float = 1.0

    def __call__(self, transition: EnvTransition) -> EnvTransition:
        """Returns a new transition; one without a state or an action passes as it is."""
        clipped = dict(transition)
        observation = dict(clipped.get(TransitionKey.OBSERVATION) or {})
        if OBS_STATE in observation:
            observation[OBS_STATE] = observation[OBS_STATE].clamp(-self.limit, self.limit)
            clipped[TransitionKey.OBSERVATION] = observation
        action = clipped.get(TransitionKey.ACTION)
        if isinstance(action, torch.Tensor):
            clipped[TransitionKey.ACTION] = action.clamp(-self.limit, self.limit)
        return clipped

    def get_config(self) -> dict[str, Any]:
        """What rebuilds this step from a checkpoint's JSON."""
        return {"limit": self.limit}

    def transform_features(
        self, features: dict[PipelineFeatureType, dict[str, PolicyFeature]]
    ) -> dict[PipelineFeatureType, dict[str, PolicyFeature]]:
        """Clipping changes no shape."""
        return features


def make_vega_pre_post_processors(
    config: VegaConfig,
    dataset_stats: Mapping[str, Mapping[str, Any]] | None = None,
    dataset_meta: Any | None = None,
) -> Pipelines:
    """The pipelines around a VEGA policy, under the name that LeRobot's factory looks up.

    Args:
        config: Its features say what is normalised, `unnormalised_action_dims` what is not.
        dataset_stats: LeRobot's statistics; their quantiles are used when the frames are not at hand.
        dataset_meta: The dataset's metadata; with its frames on disk the true quantiles are computed.
            LeRobot's trainer does not pass it but leaves it on the configuration, which serves as well.

    Returns:
        (observation -> policy input, policy output -> action); without any statistics values pass unscaled.
    """
    meta = dataset_meta or getattr(config, "_runtime_dataset_meta", None)
    stats = with_identity_dims(_true_stats(dataset_stats, meta), config.unnormalised_action_dims)
    features = {**(config.input_features or {}), **(config.output_features or {})}
    before = [
        RenameObservationsProcessorStep(rename_map={}),
        AddBatchDimensionProcessorStep(),
        DeviceProcessorStep(device=config.device),
        NormalizerProcessorStep(features=features, norm_map=config.normalization_mapping, stats=stats),
        ClipProcessorStep(),
    ]
    after = [
        ClipProcessorStep(),
        UnnormalizerProcessorStep(
            features=config.output_features or {}, norm_map=config.normalization_mapping, stats=stats
        ),
        DeviceProcessorStep(device="cpu"),
    ]
    return make_policy_processor_pipelines(input_steps=before, output_steps=after)


def with_identity_dims(stats: Stats, dims: tuple[int, ...]) -> Stats:
    """A copy of `stats` in which the quantiles of the given action dimensions are -1 and 1.

    Raises:
        ValueError: The data leave [-1, 1] there, where commands would be cut off.
    """
    if ACTION not in stats or not dims:
        return stats
    _refuse_wide(stats[ACTION], dims)
    action = {name: torch.as_tensor(value).clone() for name, value in stats[ACTION].items()}
    for name, bound in (("q01", -1.0), ("q99", 1.0)):
        action[name][list(dims)] = bound
    return {**stats, ACTION: action}


def _refuse_wide(action: Mapping[str, Any], dims: tuple[int, ...]) -> None:
    for name in ("min", "max"):
        bounds = torch.as_tensor(action[name]) if name in action else torch.zeros(max(dims) + 1)
        wide = [dim for dim in dims if abs(float(bounds[dim])) > 1 + 1e-4]
        if wide:
            raise ValueError(
                f"expected actions in [-1, 1] in policy.unnormalised_action_dims, the data's {name} is "
                f"{[float(bounds[dim]) for dim in wide]} in {wide}: leave out dimensions that are no signs"
            )


def _true_stats(stats: Mapping[str, Mapping[str, Any]] | None, meta: Any | None) -> Stats:
    exact: Stats = {key: dict(value) for key, value in (stats or {}).items()}
    if meta is None or not (Path(meta.root) / "data").is_dir():
        return exact
    for key in (OBS_STATE, ACTION):
        if key in meta.features:
            exact[key] = {**exact.get(key, {}), **dataset_quantiles(Path(meta.root), key)}
    return exact
