"""LeRobot's own programs discover the policy: train two steps, evaluate, act as the harness does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies.factory import make_pre_post_processors

from vega_policy.modeling_vega import VegaPolicy
from vega_policy.runtime.acting import ActingPolicy, as_lerobot_batch

FRAMES, EPISODES, IMAGE_PX = 12, 2, 64


@pytest.fixture(scope="module")
def dataset_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short episodes with LIBERO's keys."""
    root = tmp_path_factory.mktemp("data") / "tiny"
    picture = {"dtype": "image", "shape": (IMAGE_PX, IMAGE_PX, 3), "names": ["height", "width", "channels"]}
    features = {
        "observation.images.image": picture,
        "observation.images.image2": picture,
        "observation.state": {"dtype": "float32", "shape": (8,), "names": None},
        "action": {"dtype": "float32", "shape": (7,), "names": None},
    }
    dataset = LeRobotDataset.create("test/tiny", fps=20, features=features, root=root, use_videos=False)
    rng = np.random.default_rng(0)
    for _ in range(EPISODES):
        for _ in range(FRAMES):
            images = rng.integers(0, 256, (2, IMAGE_PX, IMAGE_PX, 3), dtype=np.uint8)
            dataset.add_frame(
                {
                    "observation.images.image": images[0],
                    "observation.images.image2": images[1],
                    "observation.state": rng.normal(size=8).astype(np.float32),
                    "action": rng.uniform(-1, 1, 7).astype(np.float32),
                    "task": "put the bowl on the plate",
                }
            )
        dataset.save_episode()
    dataset.finalize()
    return root


def run_lerobot(program: str, *flags: str) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "MUJOCO_GL": os.environ.get("MUJOCO_GL", "osmesa")}
    command = [sys.executable, "-m", f"lerobot.scripts.{program}", *flags]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    return run.stdout + run.stderr


@pytest.fixture(scope="module")
def checkpoint(dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `lerobot-train` leaves after two steps; LeRobot is told nothing but the policy's type."""
    output = tmp_path_factory.mktemp("train") / "run"
    run_lerobot(
        "lerobot_train",
        "--policy.type=vega",
        "--policy.device=cpu",
        "--policy.push_to_hub=false",
        "--dataset.repo_id=test/tiny",
        f"--dataset.root={dataset_folder}",
        f"--output_dir={output}",
        "--batch_size=2",
        "--steps=2",
        "--save_freq=2",
        "--num_workers=0",
        "--wandb.enable=false",
    )
    return output / "checkpoints" / "000002" / "pretrained_model"


def test_training_leaves_a_checkpoint_that_loads_strictly(checkpoint: Path, dataset_folder: Path) -> None:
    policy = VegaPolicy.from_pretrained(checkpoint)
    assert sorted(policy.config.image_features) == ["observation.images.image", "observation.images.image2"]
    _, after = make_pre_post_processors(policy.config, pretrained_path=str(checkpoint))
    actions = np.stack(LeRobotDataset("test/tiny", root=dataset_folder).hf_dataset["action"])
    highest = after(torch.ones(1, 7))[0, :6].numpy()
    np.testing.assert_allclose(highest, np.quantile(actions, 0.99, axis=0)[:6], rtol=1e-4, atol=1e-4)


@pytest.mark.sim
def test_lerobot_evaluates_the_checkpoint_in_libero(checkpoint: Path, tmp_path: Path) -> None:
    run_lerobot(
        "lerobot_eval",
        f"--policy.path={checkpoint}",
        "--policy.device=cpu",
        "--env.type=vega_libero",
        "--env.task=libero_spatial",
        "--env.task_ids=[0]",
        "--env.assets=standin",
        f"--env.image_size_px={IMAGE_PX}",
        "--eval.n_episodes=1",
        "--eval.batch_size=1",
        f"--output_dir={tmp_path / 'eval'}",
    )
    results = json.loads((tmp_path / "eval" / "eval_info.json").read_text())
    assert results["overall"]["n_episodes"] == 1


def test_the_harness_and_lerobot_act_alike(checkpoint: Path) -> None:
    """The same observation, once by `select_action` as in `lerobot-eval`, once as in `vega-eval`."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (2, IMAGE_PX, IMAGE_PX, 3), dtype=np.uint8)
    observation = {
        "pixels": {"image": picture[0], "image2": picture[1]},
        "robot_state": {
            "eef": {"pos": rng.normal(size=3), "quat": np.array([1.0, 0, 0, 0]), "mat": np.eye(3)},
            "gripper": {"qpos": rng.normal(size=2), "qvel": np.zeros(2)},
            "joints": {"pos": np.zeros(7), "vel": np.zeros(7)},
        },
        "task_description": "put the bowl on the plate",
    }
    acting = ActingPolicy.from_checkpoint(str(checkpoint))
    acting.reset(seed=0)
    chunk = acting.act(observation)
    policy = VegaPolicy.from_pretrained(checkpoint)
    before, after = make_pre_post_processors(policy.config, pretrained_path=str(checkpoint))
    with torch.inference_mode():
        played = [after(policy.select_action(before(as_lerobot_batch(observation)))) for _ in range(8)]
    np.testing.assert_array_equal(chunk, torch.cat(played).numpy())
