"""Training runs on a small dataset: the same twice, the same when resumed, and never past a bad number."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lerobot.configs.default import DatasetConfig
from safetensors.torch import load_file

from vega_policy.cli.train import main, play
from vega_policy.configuration_vega import VegaConfig
from vega_policy.modeling_vega import VegaPolicy
from vega_policy.training.averaging import WeightAverage
from vega_policy.training.cache.dataset import CacheConfig
from vega_policy.training.checkpoints import link_last, newest_checkpoint
from vega_policy.training.config import ClosedLoopConfig, TrainConfig
from vega_policy.training.trainer import Run


def settings(dataset: Path, policy: VegaConfig, output_dir: Path, **changes: Any) -> TrainConfig:
    data = DatasetConfig(repo_id="local/data", root=str(dataset))
    numbers = {"steps": 4, "batch_size": 4, "log_freq": 1, "save_freq": 2, "num_threads": 1, **changes}
    return TrainConfig(output_dir=output_dir, dataset=data, policy=policy, **numbers)


def losses(output_dir: Path) -> list[tuple[int, float]]:
    lines = (output_dir / "logs" / "metrics.jsonl").read_text().splitlines()
    return [(row["step"], row["train/loss"]) for row in map(json.loads, lines)]


def weights(output_dir: Path, step: int, kind: str = "pretrained_model") -> dict[str, torch.Tensor]:
    return load_file(output_dir / "checkpoints" / f"{step:06d}" / kind / "model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_a_resumed_run_equals_an_uninterrupted_one(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path
) -> None:
    def config(name: str, **changes: Any) -> TrainConfig:
        cache = CacheConfig(enabled=True, root=tmp_path / "cache")
        policy = replace(small_policy)
        return settings(
            small_dataset,
            policy,
            tmp_path / name,
            steps=12,
            save_freq=6,
            ema_decay=0.9,
            cache=cache,
            **changes,
        )

    Run(config("whole")).start()
    Run(config("again")).start()
    assert losses(tmp_path / "again") == losses(tmp_path / "whole"), "same seed and data, same curve"
    interrupted = Run(config("halved"))
    stop_after(interrupted, step=8)
    with pytest.raises(KeyboardInterrupt):
        interrupted.start()
    Run(config("halved", resume=True)).start()
    assert losses(tmp_path / "halved") == losses(tmp_path / "whole"), (
        "epochs of the data go on where they were"
    )
    for kind in ("pretrained_model", "averaged_model"):
        assert same(weights(tmp_path / "halved", 12, kind), weights(tmp_path / "whole", 12, kind))
    assert not same(weights(tmp_path / "whole", 12), weights(tmp_path / "whole", 12, "averaged_model"))
    assert (tmp_path / "halved" / "checkpoints" / "last").resolve().name == "000012"
    VegaPolicy.from_pretrained(tmp_path / "whole" / "checkpoints" / "last" / "averaged_model")


def stop_after(run: Run, step: int) -> None:
    """Interrupt a run when it logs a step, as Ctrl-C would."""
    write = run._write

    def interrupted(scalars: Any) -> None:
        write(scalars)
        if run._step == step:
            raise KeyboardInterrupt

    run._write = interrupted  # type: ignore[method-assign]


def test_training_from_the_cache_equals_training_online(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path
) -> None:
    for name, cache in (
        ("online", CacheConfig()),
        ("cached", CacheConfig(enabled=True, root=tmp_path / "cache")),
    ):
        Run(settings(small_dataset, replace(small_policy), tmp_path / name, cache=cache)).start()
    online, cached = losses(tmp_path / "online"), losses(tmp_path / "cached")
    assert [step for step, _ in online] == [1, 2, 3, 4]
    for (_, first), (_, second) in zip(online, cached, strict=True):
        assert first == pytest.approx(second, rel=1e-3)


def test_a_bad_sample_stops_training_before_the_step(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(settings(small_dataset, small_policy, tmp_path / "run", save_freq=1))
    read = VegaPolicy.read

    def spoilt(self: VegaPolicy, batch: Any, clips: Any) -> Any:
        reading = read(self, batch, clips)
        if run._step == 2:
            reading.hidden[1] = torch.nan
        return reading

    monkeypatch.setattr(VegaPolicy, "read", spoilt)
    with pytest.raises(FloatingPointError, match=r"samples \[1\] of the batch, .*'index': \[\d+\]"):
        run.start()
    assert newest_checkpoint(tmp_path / "run").name == "000002"


def test_a_bad_gradient_stops_training_before_the_step(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spoil(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, value: torch.Tensor) -> torch.Tensor:
            return value.clone()

        @staticmethod
        def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * torch.inf

    read = VegaPolicy.read

    def spoilt(self: VegaPolicy, batch: Any, clips: Any) -> Any:
        reading = read(self, batch, clips)
        return replace(reading, hidden=Spoil.apply(reading.hidden))

    monkeypatch.setattr(VegaPolicy, "read", spoilt)
    with pytest.raises(FloatingPointError, match="expected a finite gradient"):
        Run(settings(small_dataset, small_policy, tmp_path / "run")).start()


SCRIPT = """
import pathlib, sys, time
from vega_policy.training import checkpoints
from vega_policy.training.trainer import Run
dataset, output_dir, tests, resume = sys.argv[1:]
sys.path.insert(0, tests)
import conftest
import test_training
whole = checkpoints.save_checkpoint
def torn(checkpoint_dir, step, **parts):
    whole(checkpoint_dir=checkpoint_dir, step=step, **parts)
    if step == 2 and not resume:
        (checkpoint_dir / "training_state" / "training_step.json").unlink()
        print("torn", flush=True)
        time.sleep(600)
checkpoints.save_checkpoint = torn
folders = pathlib.Path(dataset), pathlib.Path(output_dir)
policy = conftest.make_policy_config()
Run(test_training.settings(folders[0], policy, folders[1], save_freq=1, resume=bool(resume))).start()
"""


def test_a_killed_run_leaves_its_last_complete_checkpoint(small_dataset: Path, tmp_path: Path) -> None:
    """The process is killed while a checkpoint is being written; another one goes on."""
    run = tmp_path / "run"
    command = [sys.executable, "-c", SCRIPT, str(small_dataset), str(run), str(Path(__file__).parent)]
    process = subprocess.Popen([*command, ""], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert any("torn" in line for line in process.stdout)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    checkpoint = newest_checkpoint(run)
    assert checkpoint.name == "000001"
    assert (run / "checkpoints" / "last").resolve() == checkpoint
    VegaPolicy.from_pretrained(checkpoint / "pretrained_model")
    subprocess.run([*command, "resume"], check=True)
    assert newest_checkpoint(run).name == "000004"


def test_the_last_link_changes_in_one_step(tmp_path: Path) -> None:
    for name in ("000001", "000002"):
        (tmp_path / name).mkdir()
        link_last(tmp_path / name)
        assert (tmp_path / "last").resolve().name == name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000001", "000002", "last"]


@pytest.mark.sim
def test_a_checkpoint_is_played_in_the_simulator(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path
) -> None:
    closed_loop = ClosedLoopConfig(every=2, task_ids=[3], trials=1, image_size_px=32, assets="standin")
    config = settings(small_dataset, small_policy, tmp_path / "run", steps=2, closed_loop=closed_loop)
    Run(config, lambda checkpoint, step: play(config, checkpoint, step)).start()
    lines = (tmp_path / "run" / "logs" / "metrics.jsonl").read_text().splitlines()
    rates = {key: value for line in lines for key, value in json.loads(line).items() if "closed" in key}
    assert rates == {"closed_loop/libero_spatial": 0.0, "closed_loop/overall": 0.0}
    summary = json.loads((tmp_path / "run" / "closed_loop" / "000002" / "summary.json").read_text())
    assert summary["overall"]["episodes"] == 1


def test_the_average_follows_and_steps_back() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(0.0)
    average = WeightAverage(module, decay=0.5)
    module.weight.data.fill_(1.0)
    average.update()  # the decay warms up: 2/11 of the old
    with average.in_place():
        assert module.weight.item() == pytest.approx(1 - 2 / 11)
    assert module.weight.item() == 1.0
    other = WeightAverage(torch.nn.Linear(2, 2), decay=0.5)
    with pytest.raises(ValueError, match="other weights"):
        other.load_state_dict(average.state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resume=true"], "there is none complete"),
        (["--init_from=/nowhere"], "/nowhere"),
        (["--closed_loop.every=3", "--save_freq=2"], "closed_loop.every"),
        (
            ["--cache.enabled=true", "--dataset.image_transforms.enable=true", "--dataset.repo_id=a/b"],
            "image_transforms",
        ),
        (["--stepps=3"], "did you mean --steps?"),
        (["--steps=0"], "--steps"),
    ],
)
def test_mistakes_end_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    try:
        code = main([f"--output_dir={tmp_path}/run", *options])
    except SystemExit as end:
        code = end.code  # type: ignore[assignment]
    assert code == 2
    assert message in capsys.readouterr().err
