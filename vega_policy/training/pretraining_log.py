"""What a pretraining run leaves to look at: TensorBoard scalars, `metrics.jsonl` and a sheet of pictures."""

import json
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter


class MetricLog:
    """Numbers by stage and step, on disk as they come.

    Args:
        folder: Where to.
        stage: Begins the names of the scalars.
        first_step: Lines of later steps, from before an interruption, are dropped: these steps come again.
    """

    def __init__(self, folder: Path, stage: str, first_step: int) -> None:
        self._stage = stage
        self._file = folder / "metrics.jsonl"
        self._drop_from(first_step)
        self._writer = SummaryWriter(str(folder / "tensorboard" / stage), purge_step=first_step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def add(self, step: int, metrics: dict[str, float]) -> None:
        """Writes the metrics of a step."""
        for name, value in metrics.items():
            self._writer.add_scalar(f"{self._stage}/{name}", value, step)
        line = json.dumps({"stage": self._stage, "step": step, **metrics})
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def _drop_from(self, first_step: int) -> None:
        if not self._file.is_file():
            return
        lines = self._file.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not self._is_to_come(json.loads(line), first_step)]
        self._file.write_text("".join(kept), encoding="utf-8")

    def _is_to_come(self, entry: dict[str, object], first_step: int) -> bool:
        return entry["stage"] == self._stage and int(str(entry["step"])) >= first_step


def save_sheet(
    file: Path, above: Float[Tensor, "n 3 side side"], below: Float[Tensor, "n 3 side side"], columns: int = 8
) -> None:
    """Pictures in [0, 1] as a PNG: in each pair of rows the first batch over the second."""
    from PIL import Image

    rows = [
        np.concatenate(list(pictures[start : start + columns].permute(0, 2, 3, 1).cpu().numpy()), axis=1)
        for start in range(0, len(above) - len(above) % columns or len(above), columns)
        for pictures in (above, below)
    ]
    sheet = (np.concatenate(rows).clip(0, 1) * 255).round().astype(np.uint8)
    Image.fromarray(sheet).save(file)
