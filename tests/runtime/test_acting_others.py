"""LeRobot policies other than ours act as `lerobot-eval` lets them act."""

import numpy as np
import pytest
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.factory import get_policy_class
from lerobot.policies.pretrained import PreTrainedPolicy

from vega_policy.runtime.acting import ActingPolicy, as_lerobot_batch

INPUTS = {
    "observation.images.image": PolicyFeature(FeatureType.VISUAL, (3, 64, 64)),
    "observation.state": PolicyFeature(FeatureType.STATE, (8,)),
}
OUTPUTS = {"action": PolicyFeature(FeatureType.ACTION, (7,))}
COMMON = {"input_features": INPUTS, "output_features": OUTPUTS, "device": "cpu"}
SMALL_ACT = {
    "dim_model": 32,
    "n_heads": 2,
    "dim_feedforward": 32,
    "n_encoder_layers": 1,
    "latent_dim": 4,
    "pretrained_backbone_weights": None,
    "chunk_size": 6,
}
CONFIGS = {
    "chunks": ACTConfig(**COMMON, **SMALL_ACT, n_action_steps=3),
    "temporal ensemble": ACTConfig(**COMMON, **SMALL_ACT, n_action_steps=1, temporal_ensemble_coeff=0.01),
    "observation history": DiffusionConfig(
        **COMMON,
        n_obs_steps=2,
        horizon=8,
        n_action_steps=4,
        down_dims=(16, 32),
        spatial_softmax_num_keypoints=4,
        num_train_timesteps=4,
        crop_shape=None,
        pretrained_backbone_weights=None,
        diffusion_step_embed_dim=16,
        use_group_norm=True,
    ),
}
STEPS = 7


def observations() -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    return [
        {
            "pixels": {"image": rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)},
            "robot_state": {
                "eef": {"pos": rng.normal(size=3), "quat": np.array([0.0, 0.0, 0.0, 1.0]), "mat": np.eye(3)},
                "gripper": {"qpos": rng.normal(size=2), "qvel": np.zeros(2)},
                "joints": {"pos": np.zeros(7), "vel": np.zeros(7)},
            },
            "task_description": "put the bowl on the plate",
        }
        for _ in range(STEPS)
    ]


def small(config: PreTrainedConfig) -> PreTrainedPolicy:
    torch.manual_seed(0)
    return get_policy_class(config.type)(config).eval()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_harness_plays_what_select_action_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vega_policy.runtime.acting._mix", lambda seed, decision: 3)
    seen = observations()
    acting = ActingPolicy(small(CONFIGS[name]), lambda batch: batch, lambda actions: actions)
    acting.reset(seed=0)
    played: list[np.ndarray] = []
    while len(played) < STEPS:
        played += list(acting.act(seen[len(played)]))

    policy = small(CONFIGS[name])
    policy.reset()
    expected = []
    for observation in seen:
        torch.manual_seed(3)
        with torch.no_grad():
            expected.append(policy.select_action(as_lerobot_batch(observation))[0].numpy())
    np.testing.assert_allclose(np.array(played[:STEPS]), np.array(expected), rtol=1e-5, atol=1e-6)
