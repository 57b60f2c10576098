"""Training in two processes, as on two GPUs, but over gloo on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("distributed_run.py")

pytestmark = pytest.mark.slow


def launch(dataset: Path, output_dir: Path, mode: str) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    run = subprocess.run(
        [*torchrun, str(SCRIPT), str(dataset), str(output_dir), mode], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-4000:]


def losses(output_dir: Path) -> list[tuple[int, float]]:
    lines = (output_dir / "logs" / "metrics.jsonl").read_text().splitlines()
    return [(row["step"], row["train/loss"]) for row in map(json.loads, lines)]


def test_a_run_resumed_in_its_second_epoch_equals_an_uninterrupted_one(
    small_dataset: Path, tmp_path: Path
) -> None:
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    launch(small_dataset, whole, "whole")
    launch(small_dataset, halved, "stop")
    assert [path.name for path in (halved / "checkpoints").iterdir() if path.name.isdigit()] == ["000010"]
    launch(small_dataset, halved, "resume")
    assert [step for step, _ in losses(whole)] == list(range(1, 21))
    assert losses(halved) == losses(whole)
    for kind in ("pretrained_model", "averaged_model"):
        one, other = (
            load_file(folder / "checkpoints" / "000020" / kind / "model.safetensors")
            for folder in (whole, halved)
        )
        assert all(torch.equal(one[key], other[key]) for key in one)
