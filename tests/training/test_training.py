"""Training runs on a small dataset: the same twice, the same when resumed, and never past a bad number."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.configs.default import DatasetConfig
from safetensors.torch import load_file
from small_data import make_dataset, make_policy_config

from vega_policy.checkpoints import shipped
from vega_policy.cli.conditions import training_conditions
from vega_policy.cli.train import main, play
from vega_policy.configuration_vega import VegaConfig
from vega_policy.modeling_vega import VegaPolicy
from vega_policy.quantiles import dataset_quantiles
from vega_policy.training.averaging import WeightAverage
from vega_policy.training.cache.dataset import CacheConfig
from vega_policy.training.checkpoints import link_last, newest_checkpoint, remove_unfinished
from vega_policy.training.config import ClosedLoopConfig, TrainConfig, pipeline
from vega_policy.training.libero_data import IMAGE_KEYS
from vega_policy.training.merging import merge_datasets
from vega_policy.training.trainer import Run


def settings(dataset: Path, policy: VegaConfig, output_dir: Path, **changes: Any) -> TrainConfig:
    data = DatasetConfig(repo_id="local/data", root=str(dataset))
    numbers = {"steps": 4, "batch_size": 4, "log_freq": 1, "save_freq": 2, "num_threads": 1, **changes}
    return TrainConfig(output_dir=output_dir, dataset=data, policy=policy, **numbers)


def losses(output_dir: Path) -> list[tuple[int, float]]:
    lines = (output_dir / "logs" / "metrics.jsonl").read_text().splitlines()
    return [(row["step"], row["train/loss"]) for row in map(json.loads, lines) if "train/loss" in row]


def weights(output_dir: Path, step: int, kind: str = "pretrained_model") -> dict[str, torch.Tensor]:
    return load_file(output_dir / "checkpoints" / f"{step:06d}" / kind / "model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def several_epochs(dataset: Path, head: str, output_dir: Path, **changes: Any) -> TrainConfig:
    """Twelve steps in epochs of eight, with a checkpoint at the sixth."""
    policy = make_policy_config()
    policy.head = replace(policy.head, name=head, num_attention_heads=2, num_blocks=1)
    cache = CacheConfig(enabled=True, root=output_dir.with_name("cache"))
    numbers = {"steps": 12, "save_freq": 6, "ema_decay": 0.9, **changes}
    return settings(dataset, policy, output_dir, cache=cache, **numbers)


@pytest.fixture(scope="module")
def uninterrupted(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a run with a head; each is trained once."""

    @functools.cache
    def trained(head: str) -> Path:
        folder = tmp_path_factory.mktemp(head) / "whole"
        Run(several_epochs(small_dataset, head, folder)).start()
        return folder

    return trained


@pytest.mark.parametrize(
    ("head", "stopped_after", "save_freq"),
    [("l1", 8, 6), ("l1", 3, 6), ("flow", 8, 6), ("l1", 11, 10)],
    ids=["middle", "no checkpoint", "noise", "second epoch"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    small_dataset: Path,
    uninterrupted: Callable[[str], Path],
    tmp_path: Path,
    head: str,
    stopped_after: int,
    save_freq: int,
) -> None:
    """Stopped in the middle of an epoch, before the first checkpoint, and with a loss that draws noise."""
    whole, halved = uninterrupted(head), tmp_path / "halved"
    interrupted = Run(several_epochs(small_dataset, head, halved, save_freq=save_freq))
    stop_after(interrupted, stopped_after)
    with pytest.raises(KeyboardInterrupt):
        interrupted.start()
    Run(several_epochs(small_dataset, head, halved, save_freq=save_freq, resume=True)).start()
    assert losses(halved) == losses(whole), "epochs of the data go on where they were"
    for kind in ("pretrained_model", "averaged_model"):
        assert same(weights(halved, 12, kind), weights(whole, 12, kind))
    assert not same(weights(whole, 12), weights(whole, 12, "averaged_model"))
    assert (halved / "checkpoints" / "last").resolve().name == "000012"
    VegaPolicy.from_pretrained(whole / "checkpoints" / "last" / "averaged_model")


def stop_after(run: Run, step: int) -> None:
    """Interrupt a run when it logs a step, as Ctrl-C would."""
    write = run._write

    def interrupted(scalars: Any) -> None:
        write(scalars)
        if run._step == step:
            raise KeyboardInterrupt

    run._write = interrupted  # type: ignore[method-assign]


def scales(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Quantiles by key, from the pipelines of a checkpoint."""
    steps = ("policy_preprocessor_step_3_normalizer", "policy_postprocessor_step_1_unnormalizer")
    return {
        f"{step}/{key}": value
        for step in steps
        for key, value in load_file(checkpoint / f"{step}_processor.safetensors").items()
    }


def test_a_start_from_other_weights_scales_by_the_new_dataset(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path
) -> None:
    """As a run from nothing does; the checkpoint only gives weights, and resuming changes no scale."""
    other = merged(tmp_path, small_dataset)
    Run(settings(small_dataset, replace(small_policy), tmp_path / "before", steps=2)).start()
    start = tmp_path / "before" / "checkpoints" / "last" / "pretrained_model"
    Run(settings(other, replace(small_policy), tmp_path / "anew", steps=2)).start()
    tuned = settings(other, replace(small_policy), tmp_path / "tuned", steps=2, init_from=str(start))
    Run(tuned).start()
    Run(replace(tuned, resume=True, steps=4)).start()
    anew, last = scales(tmp_path / "anew" / "checkpoints" / "last" / "pretrained_model"), tmp_path / "tuned"
    assert not same(anew, scales(start))
    for step in ("000002", "000004"):
        assert same(scales(last / "checkpoints" / step / "pretrained_model"), anew)
    quantiles = dataset_quantiles(other, "action")
    stored = anew["policy_postprocessor_step_1_unnormalizer/action.q01"].numpy()
    assert np.array_equal(stored[:6], quantiles["q01"][:6])
    assert stored[6] == -1, "the gripper's command is a sign"


def merged(folder: Path, small_dataset: Path) -> Path:
    """A dataset whose `stats.json` does not have the quantiles of its frames."""
    merge_datasets([small_dataset, make_dataset(folder / "other", seed=1)], folder / "merged")
    return folder / "merged"


def test_training_from_the_cache_equals_training_online(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate = VegaPolicy.simulate
    for name, cache, simulated in (
        ("online", CacheConfig(), {0, 1, 2, 3}),
        ("cached", CacheConfig(enabled=True, root=tmp_path / "cache"), {0}),
    ):
        run = Run(settings(small_dataset, replace(small_policy), tmp_path / name, cache=cache))
        steps: set[int] = set()

        def watched(self: VegaPolicy, clips: Any, run: Run = run, steps: set[int] = steps) -> Any:
            steps.add(run._step)
            return simulate(self, clips)

        monkeypatch.setattr(VegaPolicy, "simulate", watched)
        run.start()
        assert steps == simulated, "the cache is filled before the first step, and read from then on"
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
    with pytest.raises(
        FloatingPointError, match=r"^step 3, .*samples \[1\] of the batch, .*'index': \[\d+\]"
    ):
        run.start()
    checkpoint = newest_checkpoint(tmp_path / "run")
    assert checkpoint is not None
    assert checkpoint.name == "000002"


@pytest.mark.parametrize("clip_norm", [1.0, 0.0])
def test_a_bad_gradient_stops_training_before_the_step(
    small_dataset: Path,
    small_policy: VegaConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clip_norm: float,
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
    policy = replace(small_policy, optimizer_grad_clip_norm=clip_norm)
    with pytest.raises(
        FloatingPointError, match=r"^step 1, .* frames \[(\d+, ){3}\d+\]: expected a finite grad"
    ):
        Run(settings(small_dataset, policy, tmp_path / "run")).start()


SCRIPT = """
import pathlib, sys, time
from vega_policy.training import checkpoints
from vega_policy.training.trainer import Run
dataset, output_dir, tests, resume = sys.argv[1:]
sys.path.insert(0, tests)
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
policy = test_training.make_policy_config()
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
    assert checkpoint is not None
    assert checkpoint.name == "000001"
    assert (run / "checkpoints" / ".000002.partial").exists()
    assert (run / "checkpoints" / "last").resolve() == checkpoint
    VegaPolicy.from_pretrained(checkpoint / "pretrained_model")
    subprocess.run([*command, "resume"], check=True)
    found = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert found == ["000001", "000002", "000003", "000004", "last"]


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
    (row,) = (tmp_path / "run" / "closed_loop" / "000002" / "episodes.jsonl").read_text().splitlines()
    assert json.loads(row)["init_state_id"] == 40, "none of those that examine a policy"


def test_results_that_a_kill_has_lost_are_played_for_again(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path
) -> None:
    played: list[int] = []

    def fake_play(_: Path, step: int) -> dict[str, float]:
        played.append(step)
        if len(played) == 1:
            raise KeyboardInterrupt
        return {"overall": 0.5}

    def run(resume: bool) -> Run:
        return Run(
            settings(
                small_dataset,
                replace(small_policy),
                tmp_path / "run",
                closed_loop=ClosedLoopConfig(every=2),
                resume=resume,
            ),
            fake_play,
        )

    with pytest.raises(KeyboardInterrupt):
        run(resume=False).start()
    run(resume=True).start()
    run(resume=True).start()
    assert played == [2, 2, 4]
    lines = map(json.loads, (tmp_path / "run" / "logs" / "metrics.jsonl").read_text().splitlines())
    assert [line["step"] for line in lines if "closed_loop/overall" in line] == [2, 4]


def test_held_out_losses_are_logged_and_a_checkpoint_knows_its_conditions(
    small_policy: VegaConfig, tmp_path: Path
) -> None:
    environment = {"assets": "standin", "assets_hash": "12", "protocol": "oft", "image_size_px": 32}
    dataset = make_dataset(tmp_path / "data", environment={**environment, "mujoco": "3.3.2"})
    config = settings(dataset, small_policy, tmp_path / "run", steps=2, eval_freq=1)
    config.dataset.eval_split = 0.3
    Run(config).start()
    lines = map(json.loads, (tmp_path / "run" / "logs" / "metrics.jsonl").read_text().splitlines())
    held_out = [(line["step"], line["held_out/loss"]) for line in lines if "held_out/loss" in line]
    assert [step for step, _ in held_out] == [1, 2]
    assert held_out[0][1] != held_out[1][1]
    checkpoint = tmp_path / "run" / "checkpoints" / "last" / "pretrained_model"
    assert training_conditions(str(checkpoint)) == environment


def test_unfinished_checkpoints_are_removed(tmp_path: Path) -> None:
    for name in ("000002", ".000004.partial", "000004.partial", ".000002.old.partial"):
        (tmp_path / "checkpoints" / name / "pretrained_model").mkdir(parents=True)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoints" / "000002"
    remove_unfinished(tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["000002"]


def test_an_average_of_coarse_weights_follows_small_steps() -> None:
    module = torch.nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    module.weight.data.fill_(1.0)
    average = WeightAverage(module, decay=0.999)
    average.updates = 10**6  # beyond the warm-up
    module.weight.data.fill_(2.0)
    for _ in range(1000):
        average.update()
    expected = 2 - 0.999**1000
    assert average.state_dict()["weight"].item() == pytest.approx(expected, rel=1e-4)
    with average.in_place():
        assert module.weight.item() == pytest.approx(expected, rel=2**-8)
    assert average.state_dict()["weight"].item() == pytest.approx(expected, rel=1e-4)


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


EVERY_SECOND = ["--closed_loop.every=2", "--save_freq=2", "--closed_loop.assets=standin"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output_dir=."], "--resume=true"),
        (["--closed_loop.first_trial=-1"], "first_trial"),
        (["--closed_loop.trials=0"], "closed_loop.trials"),
        ([*EVERY_SECOND, "--closed_loop.suite=libero_spatail"], "did you mean 'libero_spatial'?"),
        ([*EVERY_SECOND, "--closed_loop.trials=20"], "the number of init states"),
        (["--eval_freq=2"], "eval_split"),
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
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "option", "message"),
    [
        ({"fps": 30}, "--cache.enabled=false", "fps 20"),
        ({"dtype": "image"}, "--cache.enabled=true", "convert_image_to_video"),
    ],
)
def test_an_unfit_dataset_is_a_mistake_in_the_request(
    small_dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    option: str,
    message: str,
) -> None:
    shutil.copytree(small_dataset / "meta", tmp_path / "data" / "meta")
    file = tmp_path / "data" / "meta" / "info.json"
    info = json.loads(file.read_text())
    info["fps"] = changes.get("fps", info["fps"])
    for key in IMAGE_KEYS.values():
        info["features"][key]["dtype"] = changes.get("dtype", "video")
    file.write_text(json.dumps(info))
    data = [f"--dataset.root={tmp_path / 'data'}", "--dataset.repo_id=local/data"]
    assert main([f"--output_dir={tmp_path / 'run'}", *data, option]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_shipped_checkpoint_is_a_start(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path
) -> None:
    made = pipeline(settings(small_dataset, small_policy, tmp_path / "run", init_from="vega-tiny"))
    assert made.policy is not None
    assert Path(str(made.policy.pretrained_path)) == shipped("vega-tiny")
    assert made.policy.optimizer_lr == small_policy.optimizer_lr
