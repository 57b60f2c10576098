"""`vega-train`: behaviour cloning with LeRobot's trainer, on demonstrations from `vega-collect` or the Hub.

For several GPUs start it with `accelerate launch` or `torchrun`, as `-m vega_policy.cli.train`.

What was asked for is kept in `<output_dir>/request.json`, with the code revision of every session.

Exit codes: 0 when all steps are done, 1 if training stopped (a loss that is not finite, say), 2 if nothing
was started because of a mistake in the request, 130 after Ctrl-C; then `--resume=true` goes on.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from vega_policy.cli.parsing import parse
from vega_policy.cli.program import end_with_parent, two_steps

if TYPE_CHECKING:
    from vega_policy.training.config import ClosedLoopConfig, TrainConfig
    from vega_policy.training.trainer import Run

SETTINGS = "closed_loop.json"
"""In the folder of an evaluation: the settings that it was begun with."""

FREE_TO_CHANGE = (
    "output_dir",
    "resume",
    "steps",
    "num_workers",
    "num_threads",
    "log_freq",
    "save_freq",
    "closed_loop",
    "cache.root",
    "wandb",
    "policy.device",
)
"""Options a resumed run may change: no weight depends on them, but for rounding on another device or number
of threads, and for a schedule that `steps` cuts short."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    from vega_policy.training.config import TrainConfig

    config = parse(TrainConfig, argv, prog="vega-train")
    return two_steps("vega-train", partial(_prepare, config), _start)


def _prepare(config: "TrainConfig") -> "tuple[Run, TextIO | None]":
    """Check the request, against that of the run to be resumed as well, and record it in a locked folder.

    Raises:
        ValueError: If something is asked for that cannot be, or was asked for otherwise before.
        OSError: If files are missing, or in the way.
    """
    from vega_policy.cli.requests import REQUEST, record_request, refuse_another_request, request_of
    from vega_policy.rollouts.files import lock_folder
    from vega_policy.training.checkpoints import newest_checkpoint
    from vega_policy.training.trainer import Run

    file, request = config.output_dir / REQUEST, request_of(config, config.dataset.root)
    if config.resume and newest_checkpoint(config.output_dir) is not None:
        refuse_another_request(file, request, FREE_TO_CHANGE)
    if config.closed_loop.every:
        _check_closed_loop(config.closed_loop)
    _check_wandb(config)
    run = Run(config, partial(play, config))
    lock = None
    if run.is_main_process:
        config.output_dir.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(config.output_dir)
        record_request(file, request)
    return run, lock


def _check_wandb(config: "TrainConfig") -> None:
    """LeRobot goes on with the run's own page, which one that began without Weights & Biases does not have.

    Raises:
        ValueError: It has none.
    """
    is_new = not config.resume or not (config.output_dir / "checkpoints" / "last").exists()
    if not config.wandb.enable or is_new or config.wandb.run_id is not None:
        return
    if not any((config.output_dir / "wandb").glob("latest-run/run-*")):
        raise ValueError(
            f"expected --wandb.enable=false, or a --wandb.run_id: {config.output_dir} began without wandb"
        )


def _check_closed_loop(settings: "ClosedLoopConfig") -> None:
    """Find out before training what would make every evaluation fail.

    Raises:
        ValueError: Something is asked for that does not exist.
        FileNotFoundError: The assets asked for are nowhere.
    """
    from vega_policy.cli.libero import MakeLibero, check_trials, list_tasks

    tasks = list_tasks(settings.suite, settings.task_ids)
    trials = range(settings.first_trial, settings.first_trial + settings.trials)
    check_trials(MakeLibero(settings.protocol, settings.assets, strict=False), tasks, trials)


def _start(prepared: "tuple[Run, TextIO | None]") -> int:
    run, _ = prepared  # with the folder's lock
    run.start()
    return 0


def play(config: "TrainConfig", checkpoint: Path, step: int) -> Mapping[str, float]:
    """Evaluate a checkpoint with `vega-eval` in a process of its own, so that neither disturbs the other.

    Returns:
        The success rate of each suite, and over all; empty, with the reason on stderr, if it could not be
        measured: training is worth more than one evaluation.
    """
    folder = config.output_dir / "closed_loop" / f"{step:06d}"
    _set_aside_other_settings(folder, config.closed_loop)
    options = _options(config.closed_loop, checkpoint, folder)
    command = [sys.executable, "-m", "vega_policy.cli.eval", *options]
    if subprocess.run(command, check=False, preexec_fn=end_with_parent()).returncode != 0:
        print(f"vega-train: step {step} was not evaluated: {' '.join(command)} failed", file=sys.stderr)
        return {}
    summary = json.loads((folder / "summary.json").read_text())
    rates = {suite: found["success_rate"] for suite, found in summary["suites"].items()}
    return {**rates, "overall": summary["overall"]["success_rate"]}


def _set_aside_other_settings(folder: Path, settings: "ClosedLoopConfig") -> None:
    """Rename what was begun under other settings, then killed: results of two kinds are never mixed."""
    from vega_policy.rollouts.files import write_atomically

    file = folder / SETTINGS
    now = {name: value for name, value in asdict(settings).items() if name not in ("every", "num_workers")}
    if file.is_file() and json.loads(file.read_text(encoding="utf-8")) != now:
        folder.rename(folder.with_name(f"{folder.name}.before{time.time_ns()}"))
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(now, indent=2) + "\n")


def _options(settings: "ClosedLoopConfig", checkpoint: Path, folder: Path) -> list[str]:
    chosen = [
        f"--{name}={value}"
        for name in ("task_ids", "image_size_px")
        if (value := getattr(settings, name)) is not None
    ]
    return [
        f"--policy.path={checkpoint}",
        f"--suite={settings.suite}",
        *chosen,
        f"--trials={settings.trials}",
        f"--first_trial={settings.first_trial}",
        f"--num_workers={settings.num_workers}",
        f"--assets={settings.assets}",
        f"--protocol={settings.protocol}",
        f"--output_dir={folder}",
        "--resume=true",
    ]


if __name__ == "__main__":
    sys.exit(main())
