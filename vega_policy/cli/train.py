"""`vega-train`: behaviour cloning with LeRobot's trainer, on demonstrations from `vega-collect` or the Hub.

For several GPUs start it with `accelerate launch` or `torchrun`, as `-m vega_policy.cli.train`.

Exit codes: 0 when all steps are done, 1 if training stopped (a loss that is not finite, say), 2 if nothing
was started because of a mistake in the request, 130 after Ctrl-C; then `--resume=true` goes on.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vega_policy.cli.parsing import parse
from vega_policy.cli.program import two_steps

if TYPE_CHECKING:
    from vega_policy.training.config import ClosedLoopConfig, TrainConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    from vega_policy.training.config import TrainConfig

    config = parse(TrainConfig, argv, prog="vega-train")
    from vega_policy.training.trainer import Run

    def start(run: Run) -> int:
        run.start()
        return 0

    return two_steps("vega-train", lambda: Run(config, partial(play, config)), start)


def play(config: "TrainConfig", checkpoint: Path, step: int) -> Mapping[str, float]:
    """Evaluate a checkpoint with `vega-eval` in a process of its own, so that neither disturbs the other.

    Returns:
        The success rate of each suite, and over all; empty, with the reason on stderr, if it could not be
        measured: training is worth more than one evaluation.
    """
    folder = config.output_dir / "closed_loop" / f"{step:06d}"
    command = [
        sys.executable,
        "-m",
        "vega_policy.cli.eval",
        *_options(config.closed_loop, checkpoint, folder),
    ]
    if subprocess.run(command, check=False).returncode != 0:
        print(f"vega-train: step {step} was not evaluated: {' '.join(command)} failed", file=sys.stderr)
        return {}
    summary = json.loads((folder / "summary.json").read_text())
    rates = {suite: found["success_rate"] for suite, found in summary["suites"].items()}
    return {**rates, "overall": summary["overall"]["success_rate"]}


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
        f"--num_workers={settings.num_workers}",
        f"--assets={settings.assets}",
        f"--protocol={settings.protocol}",
        f"--output_dir={folder}",
        "--resume=true",
    ]


if __name__ == "__main__":
    sys.exit(main())
