"""Grids and planes, read back pixel by pixel."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from alikit.data import GridMixture
from alikit.figures import DATA, DISCRIMINATOR, ENCODER, MODEL, beside, grid, mode_colours, plane, plane_image, show


@pytest.mark.parametrize("zoom", [1, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_grid(channels, zoom):
    """Five pictures of one shade each in rows of three; lines of two white pixels around each."""
    shades = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8])
    sheet = np.asarray(grid(shades[:, None, None, None].expand(5, channels, 4, 6), columns=3, zoom=zoom))
    high, wide = 4 * zoom, 6 * zoom
    assert sheet.shape == (2 + 2 * (high + 2), 2 + 3 * (wide + 2), 3)
    for i, shade in enumerate([0, 51, 102, 153, 204]):
        top, left = 2 + i // 3 * (high + 2), 2 + i % 3 * (wide + 2)
        assert (sheet[top : top + high, left : left + wide] == shade).all()
        assert (sheet[top - 1, left : left + wide] == 255).all()


def test_zoom_repeats_pixels():
    x = torch.tensor([[[[0.0, 1.0]]], [[[1.0, 0.0]]]])
    sheet = np.asarray(grid(x, zoom=2))[2:4, 2:6, 0]
    assert sheet.tolist() == [[0, 0, 255, 255]] * 2


def test_grid_clips_what_is_no_colour():
    sheet = np.asarray(grid(torch.tensor([-3.0, 3.0])[:, None, None, None].expand(2, 1, 4, 4)))
    assert (sheet[2:6, 2:6] == 0).all() and (sheet[2:6, 8:12] == 255).all()


def test_originals_stand_in_odd_places():
    x, x_hat = torch.arange(3.0)[:, None], torch.arange(3.0)[:, None] + 10
    assert beside(x, x_hat).flatten().tolist() == [0, 10, 1, 11, 2, 12]


def test_show_has_no_ticks():
    axes = Figure().subplots()
    show(axes, torch.rand(4, 1, 8, 8), title="digits")
    assert not axes.axison and axes.get_title() == "digits" and len(axes.images) == 1


def test_plane_shows_every_point():
    axes = Figure().subplots()
    points = torch.randn(7, 2, requires_grad=True)
    plane(axes, points, title="x")
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), points.detach())
    assert axes.get_xlim() == axes.get_ylim() == (-5.5, 5.5)


def test_plane_image():
    picture = plane_image(torch.zeros(500, 2), DATA)
    assert picture.size == (500, 500) and picture.mode == "RGB"
    colours = np.asarray(picture).reshape(-1, 3) / 255
    assert (np.abs(colours - to_rgb(DATA)).max(1) < 0.02).any()


def test_colours_are_told_apart():
    assert len({DATA, MODEL, ENCODER, DISCRIMINATOR}) == 4


def test_every_mode_has_a_colour_of_its_own():
    colours = mode_colours(GridMixture().means)
    assert colours.shape == (25, 3) and colours.min() >= 0 and colours.max() <= 1
    distances = torch.cdist(colours, colours) + torch.eye(25)
    assert distances.min() > 0.1
