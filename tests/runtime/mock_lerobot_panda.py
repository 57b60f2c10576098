"""A LeRobot robot that exists in memory only, with the policy's state and cameras, for `lerobot-rollout`.

Run as a program it is `lerobot-rollout` with this robot registered: `--robot.type=mock_panda`. After enough
actions it behaves as if somebody had pressed Ctrl-C, so nothing depends on how fast the machine is.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.robots import Robot, RobotConfig

STATE = ["x.pos", "y.pos", "z.pos", "rx.pos", "ry.pos", "rz.pos", "left.pos", "right.pos"]
ACTION = ["dx.pos", "dy.pos", "dz.pos", "drx.pos", "dry.pos", "drz.pos", "grip.pos"]
NUM_ACTIONS = 10


@RobotConfig.register_subclass("mock_panda")
@dataclass
class MockPandaConfig(RobotConfig):
    log: Path = Path("actions.json")


class MockPanda(Robot):
    config_class, name = MockPandaConfig, "mock_panda"
    is_connected = is_calibrated = False

    def __init__(self, config: MockPandaConfig) -> None:
        super().__init__(config)
        self.config = config
        self.actions: list[dict[str, float]] = []

    @property
    def observation_features(self) -> dict[str, Any]:
        return {**dict.fromkeys(STATE, float), "image": (64, 64, 3), "image2": (64, 64, 3)}

    @property
    def action_features(self) -> dict[str, Any]:
        return dict.fromkeys(ACTION, float)

    def connect(self, calibrate: bool = True) -> None:
        self.is_connected = self.is_calibrated = True

    def calibrate(self) -> None: ...

    def configure(self) -> None: ...

    def get_observation(self) -> dict[str, Any]:
        pictures = np.random.default_rng(len(self.actions)).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
        return {**dict.fromkeys(STATE, 0.1), "image": pictures[0], "image2": pictures[1]}

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        self.actions.append({name: float(value) for name, value in action.items()})
        self.config.log.write_text(json.dumps(self.actions))
        if len(self.actions) == NUM_ACTIONS:
            raise KeyboardInterrupt
        return action

    def disconnect(self) -> None:
        self.is_connected = False


if __name__ == "__main__":
    from lerobot.scripts.lerobot_rollout import main

    main()
