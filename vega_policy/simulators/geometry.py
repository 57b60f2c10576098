"""Where pixels and tokens lie: fitting a camera into a square canvas, and moving between token grids.

Registration is the point of this file. A token must stand for the same pixels in both streams, so nothing
is ever cropped away, padding falls on whole tokens, and grids are resized over the camera picture alone.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

PADDING = 0.5
"""Mid-grey, which is zero in the [-1, 1] that the autoencoders read."""


@dataclass(frozen=True)
class Window:
    """A rectangle of whole token cells, `bottom` and `right` excluded."""

    top: int
    left: int
    bottom: int
    right: int


def content_window(height_px: int, width_px: int, side: int) -> Window:
    """The cells of a `side` x `side` canvas that a camera picture fills.

    The longer side fills the canvas; the shorter is rounded to whole cells and centred on whole cells.

    Args:
        height_px: Height of the camera picture.
        width_px: Width of the camera picture.
        side: Cells along one side of the canvas.
    """
    longer = max(height_px, width_px)
    rows = max(1, round(side * height_px / longer))
    cols = max(1, round(side * width_px / longer))
    top, left = (side - rows) // 2, (side - cols) // 2
    return Window(top, left, top + rows, left + cols)


def letterbox(
    clips: Float[Tensor, "batch time 3 height width"], size_px: int, cell_px: int
) -> tuple[Float[Tensor, "batch time 3 side side"], Window]:
    """Fits camera pictures into a square canvas, without cropping.

    Args:
        clips: Pixels in [0, 1].
        size_px: Side of the canvas.
        cell_px: Side of one token cell; divides `size_px`.

    Returns:
        The float32 canvas, and the window of cells that hold the picture.
    """
    window = content_window(clips.shape[-2], clips.shape[-1], size_px // cell_px)
    rows_px, cols_px = (window.bottom - window.top) * cell_px, (window.right - window.left) * cell_px
    frames = resize_frames(clips.flatten(0, 1).float(), rows_px, cols_px)
    top_px, left_px = window.top * cell_px, window.left * cell_px
    margins = (left_px, size_px - left_px - cols_px, top_px, size_px - top_px - rows_px)
    if any(margins):
        frames = F.pad(frames, margins, value=PADDING)
    return frames.unflatten(0, clips.shape[:2]), window


def resize_frames(
    frames: Float[Tensor, "batch channels height width"], height_px: int, width_px: int
) -> Float[Tensor, "batch channels new_height new_width"]:
    """Bilinear with antialiasing, pixel areas aligned; the pictures themselves where the size is right."""
    if frames.shape[-2:] == (height_px, width_px):
        return frames
    return F.interpolate(frames, (height_px, width_px), mode="bilinear", antialias=True, align_corners=False)


def resize_grid(
    values: Float[Tensor, "batch rows cols dim"], rows: int, cols: int
) -> Float[Tensor, "batch new_rows new_cols dim"]:
    """A token grid over the same picture with `rows` x `cols` cells.

    Where the new cells are whole blocks of the old they are the blocks' exact means; otherwise the grid is
    resampled like a picture (bilinear, antialiased), which keeps cells where they are on the image plane.
    """
    old_rows, old_cols = values.shape[1:3]
    if (old_rows, old_cols) == (rows, cols):
        return values
    if old_rows % rows == 0 and old_cols % cols == 0:
        blocks = values.unflatten(2, (cols, old_cols // cols)).unflatten(1, (rows, old_rows // rows))
        return blocks.float().mean(dim=(2, 4)).to(values.dtype)
    planes = values.permute(0, 3, 1, 2).float()
    return resize_frames(planes, rows, cols).permute(0, 2, 3, 1).to(values.dtype)


def normalise(
    frames: Float[Tensor, "*batch 3 height width"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Tensor, "*batch 3 height width"]:
    """Pixels in [0, 1] shifted and scaled per colour channel."""
    shift = torch.tensor(mean, device=frames.device).view(3, 1, 1)
    scale = torch.tensor(std, device=frames.device).view(3, 1, 1)
    return (frames - shift) / scale
