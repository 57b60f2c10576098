"""Every backbone's configuration without its folder builds the same network."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vega_policy.simulators import SimulatorConfig, build_simulator
from vega_policy.simulators.portable import PARTS, portable


def test_weights_moved_into_the_portable_configuration_read_the_same(wan_config: SimulatorConfig) -> None:
    original = build_simulator(wan_config)
    moved = build_simulator(original.portable_config)
    clips = torch.rand(1, 5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(moved(clips).values, original(clips).values)
    moved.load_state_dict(original.state_dict())
    assert torch.equal(moved(clips).values, original(clips).values)


def test_only_folders_are_replaced(wan_config: SimulatorConfig) -> None:
    hub = SimulatorConfig(source="Wan-AI/Wan2.1-T2V-1.3B-Diffusers", revision="abc")
    assert portable(hub) == hub
    assert portable(portable(wan_config)) == portable(wan_config)
    assert portable(wan_config).architecture.keys() == {"vae", "transformer"}


def test_controls_keep_the_shape_of_a_local_source(wan_config: SimulatorConfig) -> None:
    untrained = build_simulator(replace(wan_config, control="random_init"))
    again = build_simulator(untrained.portable_config)
    clips = torch.rand(1, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(clips).values, untrained(clips).values)


@pytest.mark.parametrize("name", ["svd", "stable_diffusion", "vae", "vjepa2", "dino"])
def test_the_parts_of_a_backbone_are_read_from_its_folder(name: str, tmp_path: Path) -> None:
    for part in PARTS[name]:
        folder = tmp_path if part == "model" else tmp_path / part
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(f'{{"part": "{part}"}}')
    found = portable(SimulatorConfig(name=name, source=str(tmp_path)))
    assert found.architecture == {part: {"part": part} for part in PARTS[name]}
    assert found.source is None
