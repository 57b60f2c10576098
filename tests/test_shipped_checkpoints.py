"""What ships trained: small, whole without a network, honest about its making; it solves a LIBERO task."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from vega_policy.checkpoints import FOLDER, shipped, shipped_names
from vega_policy.cli.conditions import training_conditions
from vega_policy.cli.eval import main
from vega_policy.cli.policies import PolicyConfig, located, policy_factory
from vega_policy.modeling_vega import VegaPolicy

ROOT = Path(__file__).resolve().parent.parent
TINY = FOLDER / "vega-tiny"
LARGEST_BYTES = 40_000_000


def test_the_tiny_policy_ships_under_its_name() -> None:
    assert "vega-tiny" in shipped_names()
    assert shipped("vega-tiny") == TINY
    assert located("vega-tiny") == str(TINY)
    assert policy_factory(PolicyConfig(path="vega-tiny")) == policy_factory(PolicyConfig(path=str(TINY)))
    with pytest.raises(ValueError, match=r"one of \['vega-tiny'\]"):
        policy_factory(PolicyConfig(path="vega-tyni"))


def test_a_folder_of_that_name_goes_before_what_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vega-tiny").mkdir()
    (tmp_path / "vega-tiny" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert located("vega-tiny") == "vega-tiny"


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_checkpoint_is_small_and_names_no_place_of_its_making(name: str) -> None:
    files = [file for file in (FOLDER / name).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= LARGEST_BYTES
    for file in files:
        if file.suffix in (".json", ".jsonl", ".md"):
            assert not re.findall(r"(?:^|[\"' =(])/(?:tmp|root|home|work)/\S*", file.read_text()), file


@pytest.mark.parametrize("name", shipped_names())
def test_a_card_says_how_it_was_made_and_what_it_reaches(name: str) -> None:
    text = (FOLDER / name / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    header = yaml.safe_load(front)
    assert header["license"] == "apache-2.0"
    assert header["library_name"] == "lerobot"
    for needed in (
        "vega-collect",
        "vega-pretrain",
        "vega-train",
        "vega-eval",
        "revision",
        "seed",
        "fusion.name=none",
    ):
        assert needed in body, f"the card does not say {needed}"
    assert re.search(r"\d+/\d+ = \d+\.\d% \(\d+\.\d to \d+\.\d\)", body), "rates carry n and an interval"


@pytest.mark.parametrize("name", shipped_names())
def test_the_training_log_is_kept(name: str) -> None:
    """Of every stage; the last one is that of the settings beside it."""
    logs = sorted((FOLDER / name / "training").glob("*.jsonl"))
    rows = {log.name: [json.loads(line) for line in log.read_text().splitlines()] for log in logs}
    losses = {log: [row["train/loss"] for row in found if "train/loss" in row] for log, found in rows.items()}
    settings = json.loads((FOLDER / name / "train_config.json").read_text())
    assert len(losses["metrics.jsonl"]) == settings["steps"] // settings["log_freq"]
    assert min(found[-1] for found in losses.values()) < max(found[0] for found in losses.values()) / 2
    assert all(found[-1] < found[0] for found in losses.values())


def test_it_is_a_vega_policy_with_its_second_stream() -> None:
    policy = VegaPolicy.from_pretrained(TINY)
    assert policy.config.fusion.name != "none"
    assert policy.config.simulator.source is None, "its simulator is in the checkpoint"
    assert training_conditions(str(TINY))["assets"] == "standin"
    assert all(bool(torch.isfinite(weight).all()) for weight in policy.parameters())


def test_it_loads_where_nothing_can_be_downloaded(tmp_path: Path) -> None:
    code = """
import socket
def refuse(*_): raise AssertionError("the network was asked")
socket.socket.connect = refuse
from vega_policy.cli.policies import PolicyConfig, policy_factory
print(policy_factory(PolicyConfig(path="vega-tiny")).load().config.type)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.stdout.endswith("vega\n"), run.stderr


def test_it_solves_a_task_closed_loop(tmp_path: Path) -> None:
    """Two init states of one task, solved ten times of ten: at least one must be a success anywhere."""
    arguments = ["--policy.path=vega-tiny", "--suite=libero_object", "--task_ids=[1]", "--trials=2"]
    assert main([*arguments, "--assets=standin", f"--output_dir={tmp_path}"]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["provenance"]["differs_from_training"] == []
    assert summary["overall"]["successes"] >= 1


def test_the_demo_shows_what_ships() -> None:
    demo = yaml.safe_load((ROOT / "configs" / "eval" / "demo.yaml").read_text())
    assert demo["policy"] == {"path": "vega-tiny"}
