"""A policy that is evaluated otherwise than it was trained is told so."""

import json
from pathlib import Path

from vega_policy.cli.conditions import differences, training_conditions

TRAINED = {"assets": "standin", "assets_hash": "12", "protocol": "oft", "image_size_px": 128}


def test_only_what_differs_and_is_known_is_said() -> None:
    now = {**TRAINED, "image_size_px": 256, "protocol": "lerobot", "suite": "libero_goal"}
    found = differences(TRAINED, now)
    assert found == [
        "the policy was trained with protocol oft, here it is lerobot",
        "the policy was trained with picture size in pixels 128, here it is 256",
    ]
    assert differences(TRAINED, TRAINED) == []
    assert differences({}, now) == []


def test_conditions_come_from_the_checkpoint(tmp_path: Path) -> None:
    assert training_conditions(None) == {}
    assert training_conditions("an/id") == {}
    (tmp_path / "config.json").write_text(json.dumps({"trained_with": TRAINED}))
    assert training_conditions(str(tmp_path)) == TRAINED
    (tmp_path / "config.json").write_text(json.dumps({"type": "act"}))
    assert training_conditions(str(tmp_path)) == {}
