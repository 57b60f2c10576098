"""`vega-bench policy`: what policies cost in parameters, operations and, where one can run, time.

Weights are never read: a policy that needs weights from the Hub is counted, not timed.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vega_policy.cli.parsing import parse


@dataclass
class PolicyBenchConfig:
    """Count and time policies."""

    policies: list[str] = field(default_factory=list)  # YAML files; all of configs/policy if not given
    device: str = "cpu"  # where decisions are timed
    num_threads: int = 2  # of torch on the CPU
    rounds: int = 20  # timed decisions; the median is reported
    output_dir: Path | None = None  # for bench_policy.json and .md; only printed if not given

    def __post_init__(self) -> None:
        """Refuse what cannot be timed.

        Raises:
            ValueError: If a number is not positive.
        """
        for name in ("num_threads", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected --{name} >= 1, got {getattr(self, name)}")


def bench_policy(argv: Sequence[str]) -> None:
    """Run `vega-bench policy`."""
    config = parse(PolicyBenchConfig, argv, prog="vega-bench policy")
    import torch

    from vega_policy.cli.bench import describe_machine

    torch.set_num_threads(config.num_threads)
    files = [Path(name) for name in config.policies] or all_presets()
    report = {
        "machine": describe_machine(),
        "torch": torch.__version__,
        "config": {"device": config.device, "num_threads": config.num_threads, "rounds": config.rounds},
        "policies": {file.stem: measure(file, config) for file in files},
    }
    table = policy_table(report)
    print(table)
    if config.output_dir is not None:
        config.output_dir.mkdir(parents=True, exist_ok=True)
        (config.output_dir / "bench_policy.json").write_text(json.dumps(report, indent=2) + "\n")
        (config.output_dir / "bench_policy.md").write_text(table)


def all_presets() -> list[Path]:
    """The YAML files of `configs/policy`, installed or in a checkout."""
    from importlib.resources import files

    return sorted(Path(str(files("vega_policy.configs") / "policy")).glob("*.yaml"))


def measure(file: Path, config: PolicyBenchConfig) -> dict[str, Any]:
    """Counts of every part, and `latency_ms` of a decision, None for a policy that needs Hub weights."""
    from vega_policy.cli.policies import load_policy_config
    from vega_policy.cost import decision_latency_s, policy_cost
    from vega_policy.modeling_vega import VegaPolicy

    settings = load_policy_config(str(file), config.device)
    parts = [asdict(part) for part in policy_cost(settings)]
    latency_ms = None
    if not (settings.simulator.is_from_hub or settings.backbone.is_from_hub):
        policy = VegaPolicy(settings).to(config.device).eval()
        latency_ms = 1000 * statistics.median(decision_latency_s(policy, config.rounds))
    return {"parts": parts, "latency_ms": latency_ms}


def policy_table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    config = report["config"]
    lines = [
        f"{report['machine']}; torch {report['torch']}, {config['device']}, {config['num_threads']} threads; "
        f"one decision from two cameras; latency is the median of {config['rounds']}.",
        "",
        "| policy | part | parameters (M) | learning (M) | GFLOP | latency (ms) |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, row in report["policies"].items():
        lines += [_line(name, part, None) for part in row["parts"]]
        lines.append(_line(name, _total(row["parts"]), row["latency_ms"]))
    return "\n".join(lines) + "\n"


def _total(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    flops = [part["flops"] for part in parts]
    total: dict[str, Any] = {key: sum(part[key] for part in parts) for key in ("parameters", "learning")}
    return {"name": "**all**", **total, "flops": None if None in flops else sum(flops)}


def _line(policy: str, part: dict[str, Any], latency_ms: float | None) -> str:
    flops = "not counted" if part["flops"] is None else f"{part['flops'] / 1e9:,.2f}"
    latency = "" if latency_ms is None else f"{latency_ms:.0f}"
    millions = " | ".join(f"{part[key] / 1e6:,.2f}" for key in ("parameters", "learning"))
    return f"| {policy} | {part['name']} | {millions} | {flops} | {latency} |"
