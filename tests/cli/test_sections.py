"""One option inside a section changes that option and nothing else."""

from dataclasses import asdict
from typing import Any

import pytest

from vega_policy.cli.drill import DrillConfig
from vega_policy.cli.parsing import parse
from vega_policy.cli.robot import RobotRunConfig
from vega_policy.configuration_vega import VegaConfig
from vega_policy.simulators.config import SimulatorConfig
from vega_policy.training.config import TrainConfig
from vega_policy.training.pretraining_config import PretrainConfig

BASE: dict[type, list[str]] = {
    TrainConfig: ["--output_dir=run"],
    PretrainConfig: ["--output_dir=run", "--videos.root=data"],
    RobotRunConfig: ["--policy.type=hold"],
    DrillConfig: [],
}


def flat(config: Any) -> dict[str, Any]:
    """Values by dotted name."""

    def leaves(tree: Any, name: str) -> dict[str, Any]:
        if not isinstance(tree, dict) or not tree:
            return {name: tree}
        return {k: v for key, branch in tree.items() for k, v in leaves(branch, f"{name}.{key}").items()}

    return leaves(asdict(config), "")


@pytest.mark.parametrize(
    ("config_class", "option", "value"),
    [
        (TrainConfig, "policy.simulator.init_seed", 1),
        (TrainConfig, "policy.simulator.control", "zeros"),
        (TrainConfig, "policy.backbone.init_seed", 1),
        (TrainConfig, "policy.backbone.gradient_checkpointing", True),
        (TrainConfig, "policy.fusion.name", "none"),
        (TrainConfig, "policy.head.name", "flow"),
        (TrainConfig, "dataset.root", "data"),
        (TrainConfig, "cache.enabled", True),
        (PretrainConfig, "simulator.init_seed", 1),
        (RobotRunConfig, "playback.rule", "rtc"),
        (DrillConfig, "sim.assets", "standin"),
    ],
)
def test_one_option_changes_nothing_else(config_class: type, option: str, value: Any) -> None:
    before = flat(parse(config_class, BASE[config_class]))
    text = str(value).lower() if isinstance(value, bool) else value
    after = flat(parse(config_class, [*BASE[config_class], f"--{option}={text}"]))
    assert after == {**before, f".{option}": value}
    assert before[f".{option}"] != value


def test_lora_is_added_to_the_default_backbone() -> None:
    backbone = parse(TrainConfig, ["--output_dir=run", "--policy.backbone.lora.rank=4"]).policy.backbone
    assert backbone.lora is not None
    assert backbone.lora.rank == 4
    assert backbone.architecture == VegaConfig().backbone.architecture


def test_another_part_starts_from_its_own_defaults() -> None:
    """What belongs to the tiny Wan fits no other simulator, and no weights from elsewhere."""
    for option in ("name=svd", "source=outputs/simulator"):
        policy = parse(TrainConfig, ["--output_dir=run", f"--policy.simulator.{option}"]).policy
        assert policy.simulator.architecture == {}
        assert policy.simulator.block == SimulatorConfig().block
        assert policy.backbone == VegaConfig().backbone
