"""Training numbers for people: TensorBoard's event files, and one JSON line for each logged step."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vega_policy.training.files import write_text

METRICS = "metrics.jsonl"


class MetricLog:
    """Numbers by step, on the disk as they come; a resumed run goes on in the same files.

    Args:
        folder: For `metrics.jsonl`, and TensorBoard's events where there is one stage.
        last_step: The last step that is not undone by resuming; lines of later ones are dropped, as they
            come again, and so are lines that a kill has torn.
        stage: Whose steps are counted, where several stages share the file; begins TensorBoard's names.
    """

    def __init__(self, folder: Path, last_step: int = 0, stage: str | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._file, self._stage = folder / METRICS, stage
        if self._file.is_file():
            kept = [entry for entry in read_metrics(self._file) if not self._comes_again(entry, last_step)]
            write_text(self._file, "".join(json.dumps(entry) + "\n" for entry in kept))
        events = folder / "tensorboard" / stage if stage else folder
        self._events = SummaryWriter(str(events), purge_step=last_step + 1 if last_step else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Keep the numbers of a step."""
        numbers = {name: float(value) for name, value in scalars.items()}
        stage = {"stage": self._stage} if self._stage else {}
        with self._file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({**stage, "step": step, **numbers}) + "\n")
        for name, value in numbers.items():
            self._events.add_scalar(f"{self._stage}/{name}" if self._stage else name, value, step)
        self._events.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        self._events.close()

    def _comes_again(self, entry: Mapping[str, Any], last_step: int) -> bool:
        return entry.get("stage") == self._stage and entry["step"] > last_step


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The entries of `metrics.jsonl`, without lines that a kill has torn."""
    entries = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries
