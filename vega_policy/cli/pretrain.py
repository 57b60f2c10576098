"""`vega-pretrain`: the tiny world simulator, trained from the videos of a LeRobotDataset.

Everything a stopped run needs gathers in `<output_dir>.work`; the same command with `--resume=true` goes on.
`output_dir` appears when all is done, and is what `--policy.simulator.source=` takes.

Exit codes: 0 when the simulator is written, or was before, 1 if training stopped on a number that is not
finite, 2 if nothing was started because of a mistake in the request, 130 after Ctrl-C.
"""

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, TextIO

from vega_policy.cli.parsing import parse
from vega_policy.cli.program import two_steps
from vega_policy.cli.provenance import device_name, installed_versions
from vega_policy.training.pretraining_config import PretrainConfig

FREE_TO_CHANGE = ("output_dir", "resume", "device")
"""Options a resumed run may change: the result depends on none, but for rounding on another device."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    config = parse(PretrainConfig, argv, prog="vega-pretrain")
    return two_steps("vega-pretrain", partial(_prepare, config), partial(_run, config))


def _run(config: PretrainConfig, prepared: tuple[dict[str, Any], TextIO] | None) -> int:
    from vega_policy.training.pretraining import pretrain

    if prepared is None:
        print(f"simulator: {config.output_dir} is finished")
        return 0
    provenance, _ = prepared  # with the folder's lock
    validation = pretrain(config, provenance)
    print(
        f"simulator: {config.output_dir} (held-out frames come back at "
        f"{validation['frames_psnr_db']:.1f} dB, flow loss {validation['frames_loss']:.3f}); look at "
        f"{config.output_dir / 'reconstructions.png'}"
    )
    return 0


def _prepare(config: PretrainConfig) -> tuple[dict[str, Any], TextIO] | None:
    """Record the request, or compare it with that of the run to be resumed; gives provenance and lock.

    Where the simulator asked for is finished there is nothing to do, which None says.

    Raises:
        FileExistsError: If there is a simulator, finished or not, and none is to be resumed, something else
            in its place, or another process that is making one.
        ValueError: If the request differs from that of the run to be resumed, or the dataset has no films.
    """
    from vega_policy.cli.requests import REQUEST, record_request, refuse_another_request, request_of
    from vega_policy.rollouts.files import lock_folder
    from vega_policy.training.pretraining import CARD
    from vega_policy.training.pretraining_frames import list_films

    card = config.output_dir / CARD
    if config.output_dir.exists() and not (config.resume and card.is_file()):
        raise FileExistsError(f"{config.output_dir} exists already; remove it or choose another folder")
    file = config.work_dir / REQUEST
    if file.is_file() and not config.resume:
        raise FileExistsError(
            f"{config.work_dir} holds an unfinished run; go on with it by --resume=true, remove it, or "
            "choose another --output_dir"
        )
    request = request_of(config, config.videos.root)
    if card.is_file():
        refuse_another_request(card, request, FREE_TO_CHANGE, section="config")
        return None
    refuse_another_request(file, request, FREE_TO_CHANGE)
    list_films(config.videos)
    config.work_dir.mkdir(parents=True, exist_ok=True)
    lock = lock_folder(config.work_dir)
    revisions = record_request(file, request)
    provenance = {
        "config": request,
        "git_revisions": revisions,
        "versions": installed_versions(),
        "device": device_name(config.device),
    }
    return provenance, lock


if __name__ == "__main__":
    sys.exit(main())
