"""Datasets into one: `python -m vega_policy.cli.merge --roots=[A,B] --output_dir=C`.

`vega-train` takes one dataset; this puts the rounds of DAgger beside the demonstrations that came before.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vega_policy.cli.parsing import parse
from vega_policy.cli.program import REFUSED


@dataclass
class MergeConfig:
    """Write a LeRobotDataset with the episodes of several."""

    roots: list[Path]  # their folders, e.g. [data/libero,data/dagger1]
    output_dir: Path  # the new dataset's folder
    resume: bool = False  # leave it as it is if it was made of the same datasets

    def __post_init__(self) -> None:
        if not self.roots:
            raise ValueError("expected at least one folder in --roots")
        places = [root.resolve() for root in self.roots]
        for root in self.roots:
            if places.count(root.resolve()) > 1:
                raise ValueError(f"expected each of --roots once, {root} is there several times")
            if not (root / "meta" / "info.json").is_file():
                raise ValueError(f"expected a LeRobotDataset in each of --roots, there is none in {root}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    config = parse(MergeConfig, argv, prog="merge")
    from vega_policy.training.merging import merge_datasets

    try:
        merge_datasets(config.roots, config.output_dir, resume=config.resume)
    except (ValueError, OSError) as error:
        print(f"merge: error: {error}", file=sys.stderr)
        return REFUSED
    print(f"dataset: {config.output_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
