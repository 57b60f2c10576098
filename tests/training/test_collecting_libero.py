"""One demonstration of one LIBERO task, from the command to LeRobot's reader and back into the simulation."""

import json
from pathlib import Path

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from vega_policy.cli.collect import main
from vega_policy.envs.libero.env import LiberoEnv
from vega_policy.training.libero_data import (
    ACTION_KEY,
    IMAGE_KEYS,
    STATE_KEY,
    check_libero_dataset,
    libero_frame,
)

SIZE_PX, STEPS_AFTER_SUCCESS = 64, 10


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("collected") / "spatial"
    options = [f"--output_dir={root}", "--task_ids=[0]", "--episodes=1", f"--image_size_px={SIZE_PX}"]
    options += ["--assets=standin", f"--continue_after_success_s={STEPS_AFTER_SUCCESS / 20}", "--seed=1"]
    assert main(options) == 0
    return root


@pytest.mark.sim
def test_a_demonstration_is_what_lerobot_reads_and_the_simulation_repeats(root: Path) -> None:
    dataset = LeRobotDataset("local/spatial", root=root)
    check_libero_dataset(dataset.meta)
    provenance = json.loads((root / "meta" / "provenance.json").read_text())
    (episode,) = provenance["episodes"]
    assert dataset.num_episodes == 1
    assert dataset.num_frames == episode["steps"] == episode["first_success_step"] + STEPS_AFTER_SUCCESS
    assert provenance["environment"]["assets"] == "standin"
    assert provenance["config"]["continue_after_success_s"] == STEPS_AFTER_SUCCESS / 20

    table = dataset.hf_dataset.with_format("numpy")
    states, actions = np.stack(table[STATE_KEY]), np.stack(table[ACTION_KEY])
    assert np.abs(actions).max() <= 1
    env = LiberoEnv(
        "libero_spatial", 0, image_size_px=SIZE_PX, assets="standin", steps_after_success=STEPS_AFTER_SUCCESS
    )
    observation, _ = env.reset(seed=episode["seed"], options={"placement": "random"})
    middle = len(actions) // 2
    for start, stop in ((0, middle), (middle, len(actions))):
        frame, item = libero_frame(observation), dataset[start]
        assert np.array_equal(frame[STATE_KEY], states[start])
        assert item["task"] == observation["task_description"]
        for key in IMAGE_KEYS.values():
            shown = item[key].numpy().transpose(1, 2, 0) * 255
            assert np.abs(shown - frame[key]).mean() < 6
            assert np.abs(shown - frame[key][::-1, ::-1]).mean() > 15
        observation, _, terminated, _, info = env.step(actions[start:stop])
    assert info["is_success"]
    assert terminated
    env.close()


@pytest.mark.sim
def test_a_finished_collection_is_left_as_it_is(root: Path) -> None:
    """Training from it can be resumed afterwards: its files are the same ones."""
    times = {file: file.stat().st_mtime_ns for file in root.rglob("*.*")}
    options = [f"--output_dir={root}", "--task_ids=[0]", "--episodes=1", f"--image_size_px={SIZE_PX}"]
    options += ["--assets=standin", f"--continue_after_success_s={STEPS_AFTER_SUCCESS / 20}", "--seed=1"]
    assert main([*options, "--resume=true", "--num_workers=2"]) == 0
    assert {file: file.stat().st_mtime_ns for file in root.rglob("*.*")} == times


@pytest.mark.sim
def test_an_interrupted_collection_refuses_another_configuration(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [f"--output_dir={root}", "--task_ids=[0]", "--assets=standin", "--episodes=2"]
    assert main(command) == 2
    assert "--resume=true" in capsys.readouterr().err
    assert main([*command, "--resume=true", "--action_noise=0.2"]) == 2
    message = capsys.readouterr().err
    assert "config.action_noise: 0.0 became 0.2" in message
    assert "config.episodes" not in message
