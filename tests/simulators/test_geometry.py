"""Letterboxing and resizing keep every token over its own pixels; a dot moves the token that it should."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vega_policy.simulators import build_simulator, tiny_wan_config
from vega_policy.simulators.base import Simulator, TokenGrid
from vega_policy.simulators.geometry import Window, content_window, letterbox, resize_grid


def test_a_square_picture_of_the_right_size_is_left_alone(generator: torch.Generator) -> None:
    clips = torch.rand(2, 3, 3, 64, 64, generator=generator)
    canvas, window = letterbox(clips, 64, 16)
    assert torch.equal(canvas, clips)
    assert window == Window(0, 0, 4, 4)


@given(st.integers(16, 2000), st.integers(16, 2000), st.integers(4, 64))
def test_the_content_window_holds_the_whole_picture_in_its_proportions(h: int, w: int, side: int) -> None:
    window = content_window(h, w, side)
    rows, cols = window.bottom - window.top, window.right - window.left
    assert max(rows, cols) == side
    assert 0 <= window.top <= window.bottom <= side
    assert 0 <= window.left <= window.right <= side
    assert abs(rows / side - h / max(h, w)) <= 1 / side
    assert abs(cols / side - w / max(h, w)) <= 1 / side


def test_a_wide_picture_is_padded_by_whole_cells_and_not_cropped() -> None:
    clips = torch.zeros(1, 1, 3, 240, 320)
    clips[..., :1, :] = clips[..., -1:, :] = clips[..., :1] = clips[..., -1:] = 1.0  # a frame at the edge
    canvas, window = letterbox(clips, 128, 16)
    assert window == Window(1, 0, 7, 8)
    assert (canvas[..., :16, :] == 0.5).all()
    assert (canvas[..., 112:, :] == 0.5).all()
    inside = canvas[..., 16:112, :]
    for edge in (inside[..., 0, :], inside[..., -1, :], inside[..., 0], inside[..., -1]):
        assert (edge > 0.2).all()
    assert (inside[..., 3:-3, 3:-3] == 0).all()


def test_exact_division_is_the_mean_of_whole_cells(generator: torch.Generator) -> None:
    values = torch.rand(2, 8, 6, 5, generator=generator)
    pooled = TokenGrid(values).resized(4, 2).values
    for row in range(4):
        for col in range(2):
            cells = values[:, 2 * row : 2 * row + 2, 3 * col : 3 * col + 3]
            torch.testing.assert_close(pooled[:, row, col], cells.mean(dim=(1, 2)))


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 20), st.integers(2, 20), st.integers(2, 20), st.integers(2, 20))
def test_resizing_keeps_places_on_the_image_plane(rows: int, cols: int, to_rows: int, to_cols: int) -> None:
    """A ramp over the picture stays that ramp, but for the borders, where a mean is taken one-sidedly."""

    def ramp(n: int) -> torch.Tensor:
        return (torch.arange(n) + 0.5) / n

    values = torch.stack(torch.meshgrid(ramp(rows), ramp(cols), indexing="ij"), dim=-1)[None]
    resized = resize_grid(values, to_rows, to_cols)[0]
    expected = torch.stack(torch.meshgrid(ramp(to_rows), ramp(to_cols), indexing="ij"), dim=-1)
    tolerance = torch.tensor([1 / rows + 1 / to_rows, 1 / cols + 1 / to_cols]) / 2
    assert ((resized - expected).abs() <= tolerance + 1e-5).all()
    assert abs(float(resized.mean()) - 0.5) < 1e-4  # no drift to one side


def response_centre(
    simulator: Simulator, row: int, col: int, height: int, width: int, grid: tuple[int, int]
) -> tuple[float, float]:
    """Centre of the change when a bright dot fills one 16 px cell of a dark picture, in cells of that size.

    With random weights the strongest token may be a neighbour; the centre of all change is the place.
    """
    dark = torch.full((1, 1, 3, height, width), 0.1)
    dotted = dark.clone()
    dotted[..., row * 16 + 2 : (row + 1) * 16 - 2, col * 16 + 2 : (col + 1) * 16 - 2] = 1.0
    change = simulator(dotted).resized(*grid).values - simulator(dark).resized(*grid).values
    share = change[0].square().sum(dim=-1)
    share = share / share.sum()
    rows, cols = (
        (torch.arange(n) + 0.5) * size / 16 / n for n, size in zip(grid, (height, width), strict=True)
    )
    return float(share.sum(dim=1) @ rows) - 0.5, float(share.sum(dim=0) @ cols) - 0.5


@pytest.fixture(scope="module", params=[0, 1, 2])
def tiny(request: pytest.FixtureRequest) -> Simulator:
    config = tiny_wan_config(init_seed=request.param)
    config.architecture["transformer"]["patch_size"] = [1, 2, 2]  # tokens of 16 px
    return build_simulator(config)


@pytest.mark.parametrize("grid", [(8, 8), (4, 4), (5, 7)])
def test_a_dot_one_token_to_the_right_answers_one_token_to_the_right(
    tiny: Simulator, grid: tuple[int, int]
) -> None:
    here = response_centre(tiny, 3, 2, 128, 128, grid)
    right = response_centre(tiny, 3, 4, 128, 128, grid)
    below = response_centre(tiny, 5, 2, 128, 128, grid)
    assert right == pytest.approx((here[0], here[1] + 2), abs=0.3)
    assert below == pytest.approx((here[0] + 2, here[1]), abs=0.3)
    assert here == pytest.approx((3, 2), abs=0.6)


@pytest.mark.parametrize("wide", [True, False])
def test_a_dot_in_a_letterboxed_camera_answers_at_its_own_place(tiny: Simulator, wide: bool) -> None:
    """Half a canvas high or wide; in cells of the camera's own picture, padding not counted."""
    for along in (2, 3, 4):
        if wide:
            across, place = response_centre(tiny, 1, along, 64, 128, (4, 8))
        else:
            place, across = response_centre(tiny, along, 1, 128, 64, (8, 4))
        assert place == pytest.approx(along, abs=0.6)
        assert across == pytest.approx(1, abs=0.7)
