"""LeRobot's own way to a robot: `lerobot-rollout` with a VEGA policy, with and without real-time chunking."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lerobot.policies.rtc.configuration_rtc import RTCConfig

from vega_policy.configuration_vega import VegaConfig
from vega_policy.heads.config import HeadConfig
from vega_policy.runtime.acting import ActingPolicy

PROGRAM = Path(__file__).parent / "mock_lerobot_panda.py"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flow") / "pretrained_model"
    head = HeadConfig(name="flow", slots="per_step", width=32, num_blocks=1, num_euler_steps=2)
    acting = ActingPolicy.untrained(VegaConfig(device="cpu", head=head, rtc_config=RTCConfig()))
    acting._policy.save_pretrained(folder)
    acting._preprocess.save_pretrained(folder)
    acting._postprocess.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("inference", [["sync"], ["rtc", "--inference.rtc.execution_horizon=4"]])
def test_lerobot_rollout_drives_a_robot(checkpoint: Path, inference: list[str], tmp_path: Path) -> None:
    log = tmp_path / "actions.json"
    flags = [
        f"--policy.path={checkpoint}",
        "--robot.type=mock_panda",
        f"--robot.calibration_dir={tmp_path}",
        f"--robot.log={log}",
        f"--inference.type={inference[0]}",
        *inference[1:],
        "--task=put the bowl on the plate",
        "--fps=4",
        "--duration=120",
        "--return_to_initial_position=false",
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(PROGRAM), *flags]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert run.returncode == 0, run.stderr[-4000:]
    sent = np.array([list(action.values()) for action in json.loads(log.read_text())])
    assert sent.shape == (10, 7)
    assert np.isfinite(sent).all()
    assert np.abs(sent).max() <= 1.0
    assert np.abs(np.diff(sent, axis=0)).max() > 1e-4, "the actions follow from what is seen"
