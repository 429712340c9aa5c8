"""Grids and planes, read back pixel by pixel."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from alikit.data import GridMixture
from alikit.data.conditions import COLUMNS
from alikit.errors import AlikitError
from alikit.figures import (
    DATA,
    DISCRIMINATOR,
    ENCODER,
    MODEL,
    beside,
    few_colours,
    grid,
    inference_figure,
    learning_figure,
    mode_colours,
    plane,
    plane_image,
    show,
    strips,
)
from alikit.models import Game


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


class Affine(nn.Module):
    """z = a x + b, noise added when drawn."""

    def __init__(self, a: float, b: float = 0.0, noise: float = 0.0):
        super().__init__()
        self.a, self.b, self.noise = nn.Parameter(torch.tensor(a)), b, noise

    def forward(self, v):
        return self.mean(v) + self.noise * torch.randn_like(v)

    def mean(self, v):
        return self.a * v + self.b


@pytest.fixture(scope="module")
def inference():
    """Four models, one of them with draws, one broken, and what is drawn of them: panels[row][column]."""
    models = {
        "half": Game(Affine(2.0), 2, Affine(0.5)),
        "noisy": Game(Affine(2.0), 2, Affine(0.5, noise=0.1)),
        "far": Game(Affine(2.0, b=100.0), 2, Affine(1.0)),
        "broken": Game(Affine(float("nan")), 2, Affine(0.5)),
    }
    data = GridMixture().sample(400, seed=2)
    figure = inference_figure(models, data.x, data.labels)
    return figure, np.array(figure.axes).reshape(5, 4), data


def points_and_colours(axes):
    drawn = axes.collections[-1]
    return torch.tensor(np.asarray(drawn.get_offsets())), torch.tensor(drawn.get_facecolor()[:, :3]).float()


def test_inference_figure_has_a_column_a_model(inference):
    figure, panels, _ = inference
    assert [axes.get_title() for axes in panels[0]] == ["half", "noisy", "far", "broken"]
    assert not any(axes.get_title() for axes in panels[1:].flat)
    assert [bool(axes.get_ylabel()) for axes in panels.flat] == [True, False, False, False] * 5
    for row, extent in zip(panels, (5.5, 4, 5.5, 4, 5.5), strict=True):
        for axes in row:
            assert axes.get_xlim() == axes.get_ylim() == (-extent, extent) and axes.get_aspect() == 1
            assert len(axes.get_xticks()) == len(axes.get_yticks()) == 0
            assert axes.collections[-1].get_rasterized()
    FigureCanvasAgg(figure).draw()


def test_inference_figure_follows_each_point_by_its_colour(inference):
    _, panels, data = inference
    of_mode = mode_colours(GridMixture().means)
    (x, colours), (z_hat, colours_z), (x_hat, colours_hat) = map(points_and_colours, panels[:3, 0])
    order = (x.float()[:, None] - data.x).abs().sum(2).argmin(1)
    assert order.sort().values.equal(torch.arange(400)) and not order.equal(torch.arange(400))
    torch.testing.assert_close(x.float(), data.x[order])
    torch.testing.assert_close(colours, of_mode[data.labels[order]])
    assert colours.equal(colours_z) and colours.equal(colours_hat)
    torch.testing.assert_close(z_hat, x / 2)
    torch.testing.assert_close(x_hat, x)


def test_inference_figure_reconstructs_the_codes_it_shows(inference):
    _, panels, _ = inference
    x, z_hat, x_hat = (points_and_colours(axes)[0] for axes in panels[:3, 1])
    assert (z_hat - x / 2).std() == pytest.approx(0.1, rel=0.2)
    torch.testing.assert_close(x_hat, 2 * z_hat)


def test_inference_figure_colours_the_prior_by_its_samples(inference):
    _, panels, _ = inference
    (z, colours_z), (x_tilde, colours) = map(points_and_colours, panels[3:, 0])
    torch.testing.assert_close(x_tilde, 2 * z)
    means = GridMixture().means
    nearest = torch.cdist(x_tilde.float(), means).argmin(1)
    torch.testing.assert_close(colours, mode_colours(means)[nearest])
    assert colours.equal(colours_z)
    for axes in panels[3, 1:]:
        assert points_and_colours(axes)[0].equal(z)


def test_inference_figure_counts_what_lies_outside(inference):
    _, panels, _ = inference
    x, z_hat = (points_and_colours(axes)[0] for axes in panels[:2, 2])
    assert not panels[0, 2].texts
    expected = (z_hat.abs() > 4).any(1).double().mean().item()
    assert 0.1 < expected < 0.9
    assert panels[1, 2].texts[0].get_text() == f"{expected:.1%} outside"
    assert panels[4, 2].texts[0].get_text() == panels[4, 3].texts[0].get_text() == "100.0% outside"
    torch.testing.assert_close(points_and_colours(panels[3, 3])[1], torch.full((400, 3), 0.6))
    assert x.equal(z_hat)


def test_inference_figure_is_reproducible_and_leaves_the_seed_alone(inference):
    _, panels, data = inference
    torch.manual_seed(9)
    state = torch.get_rng_state()
    again = inference_figure({"noisy": Game(Affine(2.0), 2, Affine(0.5, noise=0.1))}, data.x, data.labels)
    assert torch.get_rng_state().equal(state)
    for before, after in zip(panels[:, 1], again.axes, strict=True):
        assert points_and_colours(before)[0].equal(points_and_colours(after)[0])
    other = inference_figure({"noisy": Game(Affine(2.0), 2, Affine(0.5))}, data.x, data.labels, seed=1)
    assert not points_and_colours(other.axes[3])[0].equal(points_and_colours(panels[3, 0])[0])


def test_inference_figure_needs_an_encoder_and_a_plane():
    x, labels = torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)
    with pytest.raises(AlikitError, match="cannot encode"):
        inference_figure({"gan": Game(Affine(1.0), 2)}, x, labels)
    with pytest.raises(AlikitError, match="those of deep have 3"):
        inference_figure({"deep": Game(Affine(1.0), 3, Affine(1.0))}, x, labels)


# Learning curves.


def test_learning_figure_draws_what_the_log_says():
    log = [{"step": 10 * i, "generator": 5.0, "discriminator": 1.0, "cycle": 1.0, "spread": 0.5} for i in range(1, 9)]
    plain = np.asarray(learning_figure([*log, {"step": 80, "reconstruction_mean": 0.1}], epoch_steps=10)).astype(int)
    assert plain.shape == (500, 650, 3)
    assert np.array_equal(plain, np.asarray(learning_figure(log, epoch_steps=10))), "an evaluation is no report"
    changed = {}
    for name in ("generator", "spread"):
        other = learning_figure([{**line, name: line[name] * 0.9} for line in log], epoch_steps=10)
        changed[name] = np.abs(np.asarray(other).astype(int) - plain).sum((1, 2)) > 0
    assert changed["generator"][:250].any() and changed["spread"][250:].any() and not changed["spread"][:250].any()


@pytest.mark.filterwarnings("error")
def test_learning_figure_of_a_gan():
    log = [{"step": 10, "generator": 5.0, "discriminator": 1.0}, {"step": 20, "generator": 4.0, "discriminator": 1.0}]
    assert learning_figure(log, epoch_steps=10).size == (650, 500)


def test_strips_have_a_row_and_a_name_each():
    x = torch.rand(5, 3, 8, 8)
    image = strips({"above": x, "below": 1 - x}, columns=list("abcde"), zoom=4)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    sheet = np.asarray(grid(x, 5, 4))
    assert image.width >= sheet.shape[1] + 100 and image.height >= 2 * sheet.shape[0]
    assert (pixels[:, :, :100] < 0.5).any()  # names stand before the rows
    # The middle of each tile, where nothing is blended with a neighbour, in its row and column.
    top = image.height - 2 * sheet.shape[0]
    for row, pictures in enumerate((x, 1 - x)):
        for column in range(5):
            middle = (top + row * sheet.shape[0] + 2 + 18, image.width - sheet.shape[1] + column * 34 + 2 + 18)
            torch.testing.assert_close(pixels[:, *middle], pictures[column, :, 4, 4], atol=0.02, rtol=0)


@pytest.mark.parametrize("size", [32, 64])
def test_long_names_are_whole_and_apart(size):
    """Those of the paper's grid, and a row with a long name: no ink at the edges, nor where two columns meet."""
    x = torch.rand(12, 3, size, size)
    names = [*[*COLUMNS][:11], "a receding hairline"]
    image = np.asarray(strips({"female, attractive, not young": x}, names, zoom=2 if size > 32 else 3).convert("L"))
    each = (size * 2 if size > 32 else size * 3) + 2
    left, top = image.shape[1] - 12 * each - 2, image.shape[0] - each - 2
    for ink in (image[:top, left:], image[top:, :left]):
        assert (ink < 128).any() and (ink[:, [0, 1, -1]] == 255).all() and (ink[[0, 1, -1]] == 255).all()
    between = [left + each * column + offset for column in range(1, 12) for offset in (0, 1, 2)]
    assert (image[:top, between] == 255).all()


def test_short_names_stay_on_one_line():
    x = torch.rand(3, 3, 32, 32)
    assert strips({"row": x}, ["-1", "+0.5", "as it is"]).size == (130 + 3 * 66 + 2, 25 + 68)


def test_few_colours_are_the_picture_to_the_eye():
    torch.manual_seed(0)
    waves = [torch.sin(torch.outer(torch.rand(40) * 3, torch.linspace(0, 6, 32)) + phase) for phase in (0, 1, 2)]
    x = torch.stack(waves, 1)[:, :, None] * torch.linspace(0.4, 1, 32)[:, None] / 2 + 0.5
    whole = grid(x, zoom=2)
    few = few_colours(whole)
    assert few.mode == "P" and few.size == whole.size
    error = np.asarray(few.convert("RGB")).astype(float) - np.asarray(whole)
    assert np.sqrt((error**2).mean()) < 10  # of 255, on all colours there are
    assert (np.asarray(few.convert("RGB"))[:2] == 255).all(), "white lines stay white"


def test_few_colours_keep_what_has_few():
    plain = Image.new("RGB", (9, 7), "#0072B2")
    plain.paste((255, 255, 255), (3, 0, 6, 7))
    assert np.array_equal(np.asarray(few_colours(plain).convert("RGB")), np.asarray(plain))
    assert few_colours(Image.new("RGB", (1, 1), "white")).size == (1, 1)
