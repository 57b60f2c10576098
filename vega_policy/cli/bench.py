"""`vega-bench WHAT`: speed on this machine, as JSON and as a Markdown table.

`vega-bench env` times control steps in a loop over plain LIBERO and in chunks, and pictures with official and
with stand-in assets, in one run: figures of different runs or machines cannot be compared. The other
benchmark is in bench_policy.py.
"""

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vega_policy.cli.bench_policy import bench_policy
from vega_policy.cli.parsing import parse

if TYPE_CHECKING:
    from vega_policy.envs.libero.assets import Assets


@dataclass
class EnvBenchConfig:
    """Time LIBERO's control steps and pictures."""

    suite: str = "libero_spatial"  # the suite of the task that is timed
    task_id: int = 0  # which task
    assets: str = "auto"  # for the control steps: auto, official, standin or a folder
    chunks: list[int] = field(default_factory=lambda: [1, 4, 8, 16])  # chunk lengths
    steps: int = 16  # control steps per measurement
    rounds: int = 5  # measurements of each; medians are reported
    seed: int = 0  # of the random actions
    output_dir: Path | None = None  # where bench_env.json and bench_env.md go; only printed if not given

    def __post_init__(self) -> None:
        """Refuse what cannot be timed.

        Raises:
            ValueError: If a number is not positive.
        """
        for name, value in (("steps", self.steps), ("rounds", self.rounds), ("chunks", min(self.chunks))):
            if value < 1:
                raise ValueError(f"expected --{name} >= 1, got {value}")


def bench_env(argv: Sequence[str]) -> None:
    """Run `vega-bench env`."""
    config = parse(EnvBenchConfig, argv, prog="vega-bench env")
    from vega_policy.envs.libero.assets import resolve_assets
    from vega_policy.envs.libero.env import LiberoEnv
    from vega_policy.envs.libero.throughput import measure_drawing, measure_steps

    assets = resolve_assets(config.assets)
    provenance = LiberoEnv(config.suite, config.task_id, assets=assets.folder).provenance()
    if config.steps > (most := provenance["max_steps"]):
        raise ValueError(f"expected --steps <= {most}, those of one episode, got {config.steps}")
    loops = measure_steps(
        config.suite, config.task_id, assets, config.chunks, config.steps, config.rounds, config.seed
    )
    drawing = measure_drawing(config.suite, config.task_id, _both_kinds(assets), config.rounds)
    report = {
        "machine": describe_machine(),
        "provenance": provenance,
        "config": {"steps": config.steps, "rounds": config.rounds, "seed": config.seed},
        "control_steps": compare(loops, "plain"),
        "pictures": compare(drawing, "official") if "official" in drawing else compare(drawing, "standin"),
    }
    table = env_table(report)
    print(table)
    if config.output_dir is not None:
        config.output_dir.mkdir(parents=True, exist_ok=True)
        (config.output_dir / "bench_env.json").write_text(json.dumps(report, indent=2) + "\n")
        (config.output_dir / "bench_env.md").write_text(table)


def _both_kinds(assets: "Assets") -> "list[Assets]":
    """The assets that were asked for and the stand-in kit."""
    from vega_policy.envs.libero.assets import resolve_assets

    return [assets] if assets.kind == "standin" else [assets, resolve_assets("standin")]


def compare(seconds: Mapping[str, Sequence[float]], reference: str) -> dict[str, dict[str, float]]:
    """Medians over rounds, and how many times faster than the reference each is.

    Args:
        seconds: Seconds of each round by name.
        reference: The name that the others are compared with, round by round.

    Returns:
        By name: `ms` (median) and `times_faster` (median of the rounds' quotients).
    """
    return {
        name: {
            "ms": 1000 * statistics.median(rounds),
            "times_faster": statistics.median(
                slow / fast for slow, fast in zip(seconds[reference], rounds, strict=True)
            ),
        }
        for name, rounds in seconds.items()
    }


def env_table(report: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    provenance, config = report["provenance"], report["config"]
    lines = [
        f"{report['machine']}; mujoco {provenance['mujoco']}, MUJOCO_GL={provenance['MUJOCO_GL']}; "
        f"{provenance['suite']} task {provenance['task_id']}, {provenance['assets']} assets "
        f"({provenance['assets_hash']}), two {provenance['image_size_px']} px cameras; medians of "
        f"{config['rounds']} rounds of {config['steps']} control steps, seed {config['seed']}.",
        "",
        "| control steps | ms per step | steps per s | times plain LIBERO |",
        "|---|---:|---:|---:|",
    ]
    for name, row in report["control_steps"].items():
        lines.append(f"| {name} | {row['ms']:.1f} | {1000 / row['ms']:.1f} | {row['times_faster']:.2f} |")
    lines += ["", "| pictures | ms per picture | times faster |", "|---|---:|---:|"]
    for kind, row in report["pictures"].items():
        lines.append(f"| {kind} | {row['ms']:.1f} | {row['times_faster']:.2f} |")
    return "\n".join(lines) + "\n"


def describe_machine() -> str:
    """Processor, cores and how busy they are, in one line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{model}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}"


BENCHMARKS: Mapping[str, Callable[[Sequence[str]], None]] = {"env": bench_env, "policy": bench_policy}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    usage = f"usage: vega-bench {{{','.join(BENCHMARKS)}}} [--option=value ...]"
    if arguments and arguments[0] in BENCHMARKS:
        try:
            BENCHMARKS[arguments[0]](arguments[1:])
        except (ValueError, OSError, RuntimeError) as error:
            print(f"vega-bench {arguments[0]}: error: {error}", file=sys.stderr)
            return 2
        return 0
    if arguments in (["-h"], ["--help"]):
        print(f"{usage}\n\nvega-bench {next(iter(BENCHMARKS))} --help lists a benchmark's options.")
        return 0
    print(usage, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
