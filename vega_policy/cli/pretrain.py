"""`vega-pretrain`: the tiny world simulator, trained from the videos of a LeRobotDataset.

Everything a stopped run needs gathers in `<output_dir>.work`; the same command with `--resume=true` goes on.
`output_dir` appears when all is done, and is what `--policy.simulator.source=` takes.

Exit codes: 0 when the simulator is written, 1 if training stopped on a number that is not finite, 2 if
nothing was started because of a mistake in the request, 130 after Ctrl-C.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import draccus

from vega_policy.cli.parsing import parse
from vega_policy.cli.program import two_steps
from vega_policy.cli.provenance import device_name, git_revision, installed_versions
from vega_policy.training.pretraining_config import PretrainConfig

REQUEST = "request.json"
FREE_TO_CHANGE = ("output_dir", "resume", "device")
"""Options a resumed run may change: the result depends on none, but for rounding on another device."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    config = parse(PretrainConfig, argv, prog="vega-pretrain")
    return two_steps("vega-pretrain", partial(_prepare, config), lambda _: _run(config))


def _run(config: PretrainConfig) -> int:
    from vega_policy.training.pretraining import pretrain

    provenance = {
        "config": _request(config),
        "git_revision": git_revision(),
        "versions": installed_versions(),
        "device": device_name(),
    }
    validation = pretrain(config, provenance)
    print(
        f"simulator: {config.output_dir} (held-out frames come back at "
        f"{validation['frames_psnr_db']:.1f} dB, flow loss {validation['frames_loss']:.3f}); look at "
        f"{config.output_dir / 'reconstructions.png'}"
    )
    return 0


def _prepare(config: PretrainConfig) -> None:
    """Record the request, or compare it with that of the run to be resumed.

    Raises:
        FileExistsError: If there is a finished simulator, or an unfinished one not asked to be resumed.
        ValueError: If the request differs from that of the run to be resumed.
    """
    if config.output_dir.exists():
        raise FileExistsError(f"{config.output_dir} exists already; remove it or choose another folder")
    file = config.work_dir / REQUEST
    if not file.is_file():
        config.work_dir.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(_request(config), indent=2) + "\n", encoding="utf-8")
        return
    if not config.resume:
        raise FileExistsError(
            f"{config.work_dir} holds an unfinished run; go on with it by --resume=true, remove it, or "
            "choose another --output_dir"
        )
    before = _flat(json.loads(file.read_text(encoding="utf-8")))
    now = _flat(_request(config))
    changed = [key for key in before | now if before.get(key) != now.get(key)]
    changed = [key for key in changed if key not in FREE_TO_CHANGE]
    if changed:
        key = changed[0]
        raise ValueError(
            f"cannot resume {config.work_dir} with another request: {key}: {before.get(key)} became "
            f"{now.get(key)}; choose another --output_dir"
        )


def _request(config: PretrainConfig) -> dict[str, Any]:
    return json.loads(json.dumps(draccus.encode(config)))


def _flat(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in section.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


if __name__ == "__main__":
    sys.exit(main())
