"""Recordings of robots into a LeRobotDataset: `python -m vega_policy.cli.recordings --record=DIR`.

`vega-robot --record=DIR` does so at its end. This does it for a run that had no end: whatever of it is on
disk becomes an episode.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vega_policy.cli.parsing import parse


@dataclass
class RecordingsConfig:
    """Put the recordings in DIR.recordings together as a LeRobotDataset in DIR."""

    record: Path  # what --record of vega-robot was


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    config = parse(RecordingsConfig, argv, prog="recordings")
    try:
        print(rebuild(config.record))
    except (ValueError, OSError) as error:
        print(f"recordings: error: {error}", file=sys.stderr)
        return 2
    return 0


def recordings_dir(record: Path) -> Path:
    """Where the recordings of a dataset gather."""
    return record.with_name(f"{record.name}.recordings")


def next_recording(record: Path) -> Path:
    """A folder for one more recording, after all others, of which some may have been deleted."""
    numbers = (path.name.removeprefix("run") for path in earlier_recordings(record))
    last = max((int(number) for number in numbers if number.isdecimal()), default=-1)
    return recordings_dir(record) / f"run{last + 1:05d}"


def rebuild(record: Path) -> str:
    """Write the dataset from all recordings; says what was written.

    Raises:
        ValueError: There is nothing to write.
        OSError: There are no recordings, or something else is in the dataset's place.
    """
    from vega_policy.runtime.recordings import recordings_to_dataset

    count = recordings_to_dataset(earlier_recordings(record), record)
    return f"dataset: {record} ({count} episodes)"


def earlier_recordings(record: Path) -> list[Path]:
    """All recordings of a dataset, oldest first."""
    return sorted(recordings_dir(record).glob("run*"))


if __name__ == "__main__":
    sys.exit(main())
