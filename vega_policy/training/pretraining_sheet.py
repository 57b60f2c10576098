"""Pictures of a pretraining run to look at: what went in over what came back."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor


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
