"""Training numbers for people: TensorBoard's event files, and one JSON line for each logged step."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class TrainingLog:
    """Scalars of a run, below `folder`; a resumed run goes on in the same files.

    Args:
        folder: For `metrics.jsonl` and TensorBoard's events.
        first_step: Steps after this one were undone by resuming; their lines are dropped.
    """

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "metrics.jsonl"
        self._events = SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None)
        if self._file.is_file():
            lines = self._file.read_text().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= first_step]
            self._file.write_text("".join(kept))

    def write(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Keep the numbers of a step."""
        numbers = {name: float(value) for name, value in scalars.items()}
        with self._file.open("a") as lines:
            lines.write(json.dumps({"step": step, **numbers}) + "\n")
        for name, value in numbers.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        self._events.close()
