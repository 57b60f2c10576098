"""Training runs on a small dataset: the same twice, the same when resumed, and never past a bad number."""

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_data import make_dataset, make_policy_config
from small_runs import losses, same, settings, weights

from vega_policy.cli.conditions import training_conditions
from vega_policy.cli.train import play
from vega_policy.configuration_vega import VegaConfig
from vega_policy.fusion_config import FusionConfig
from vega_policy.modeling_vega import VegaPolicy
from vega_policy.quantiles import dataset_quantiles
from vega_policy.training.cache.dataset import CacheConfig
from vega_policy.training.checkpoints import newest_checkpoint
from vega_policy.training.config import ClosedLoopConfig, TrainConfig
from vega_policy.training.merging import merge_datasets
from vega_policy.training.trainer import Run


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
    mixing = replace(small_policy, fusion=FusionConfig("gated"))
    for name, cache, simulated in (
        ("online", CacheConfig(), {0, 1, 2, 3}),
        ("cached", CacheConfig(enabled=True, root=tmp_path / "cache"), {0}),
    ):
        run = Run(settings(small_dataset, replace(mixing), tmp_path / name, cache=cache))
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
    monkeypatch.setattr(VegaPolicy, "simulate", lambda self, clips: torch.zeros_like(simulate(self, clips)))
    Run(settings(small_dataset, replace(mixing), tmp_path / "spoilt")).start()
    spoilt = losses(tmp_path / "spoilt")
    assert abs(spoilt[-1][1] / online[-1][1] - 1) > 3e-3, "other features would have been noticed"


def test_processes_that_fill_the_cache_and_load_change_nothing(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path
) -> None:
    for number in (0, 2):
        cache = CacheConfig(enabled=True, root=tmp_path / f"cache{number}")
        changes: dict[str, Any] = {"cache": cache, "num_workers": number}
        Run(settings(small_dataset, replace(small_policy), tmp_path / f"workers{number}", **changes)).start()
    assert losses(tmp_path / "workers0") == losses(tmp_path / "workers2")


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


def test_an_evaluation_that_was_begun_with_other_settings_begins_anew(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`closed_loop` may change when a run is resumed, and results of two kinds are never mixed."""
    folder = tmp_path / "run" / "closed_loop" / "000002"
    rate = {"success_rate": 0.5}

    def fake_run(*_: Any, **__: Any) -> SimpleNamespace:
        with (folder / "episodes.jsonl").open("a") as rows:
            rows.write("an episode\n")
        (folder / "summary.json").write_text(json.dumps({"suites": {"libero_10": rate}, "overall": rate}))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", fake_run)
    for trials, rows in ((2, 1), (2, 2), (1, 1)):
        closed_loop = ClosedLoopConfig(every=2, trials=trials)
        config = settings(small_dataset, small_policy, tmp_path / "run", closed_loop=closed_loop)
        assert play(config, tmp_path, 2) == {"libero_10": 0.5, "overall": 0.5}
        assert len((folder / "episodes.jsonl").read_text().splitlines()) == rows
    (before,) = folder.parent.glob("000002.before*")
    assert len((before / "episodes.jsonl").read_text().splitlines()) == 2


def test_a_run_that_was_killed_before_its_last_link_is_put_right(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path
) -> None:
    config = settings(small_dataset, small_policy, tmp_path / "run")
    Run(config).start()
    last = tmp_path / "run" / "checkpoints" / "last"
    last.unlink()
    last.symlink_to("000002")
    Run(replace(config, policy=replace(small_policy), resume=True)).start()
    assert last.resolve().name == "000004"


def test_closed_loop_rates_are_put_beside_lerobots_numbers(
    small_dataset: Path, small_policy: VegaConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[dict[str, float], int]] = []
    page = SimpleNamespace(run=object(), log=lambda scalars, step: told.append((scalars, step)))
    monkeypatch.setitem(sys.modules, "wandb", page)
    closed_loop = ClosedLoopConfig(every=2)
    config = settings(small_dataset, small_policy, tmp_path / "run", steps=2, closed_loop=closed_loop)
    Run(config, lambda *_: {"overall": 0.5}).start()
    assert told == [({"closed_loop/overall": 0.5}, 2)]


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
    config = settings(dataset, small_policy, tmp_path / "run", steps=2)
    config.dataset.eval_split, config.eval_freq = 0.3, 1
    Run(config).start()
    lines = map(json.loads, (tmp_path / "run" / "logs" / "metrics.jsonl").read_text().splitlines())
    held_out = [(line["step"], line["held_out/loss"]) for line in lines if "held_out/loss" in line]
    assert [step for step, _ in held_out] == [1, 2]
    assert held_out[0][1] != held_out[1][1]
    checkpoint = tmp_path / "run" / "checkpoints" / "last" / "pretrained_model"
    assert training_conditions(str(checkpoint)) == environment
