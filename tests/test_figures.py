"""Grids, strips and planes, read back pixel by pixel."""

from math import log, nan

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import nn

from alikit import figures
from alikit.data import GridMixture
from alikit.data.conditions import COLUMNS
from alikit.figures import grid, inference_figure, learning_figure, mode_colours, strips
from alikit.models import Game
from alikit.networks import Deterministic, Gaussian


@pytest.mark.parametrize(("channels", "zoom"), [(1, 3), (3, 1)])
def test_grid(channels, zoom):
    """Five pictures of one shade each in rows of three, with two white pixels around each; what is no shade is cut."""
    shades = torch.tensor([-3.0, 0.2, 0.4, 0.6, 3.0])
    sheet = np.asarray(grid(shades[:, None, None, None].expand(5, channels, 4, 6), columns=3, zoom=zoom))
    high, wide = 4 * zoom, 6 * zoom
    assert sheet.shape == (2 + 2 * (high + 2), 2 + 3 * (wide + 2), 3)
    for i, shade in enumerate([0, 51, 102, 153, 255]):
        top, left = 2 + i // 3 * (high + 2), 2 + i % 3 * (wide + 2)
        assert (sheet[top : top + high, left : left + wide] == shade).all()
        assert (sheet[top - 1, left : left + wide] == 255).all()
    pixels = np.asarray(grid(torch.tensor([[0.0, 1.0]]).expand(2, 1, 1, 2), zoom=zoom))[2, 2 : 2 + 2 * zoom, 0]
    assert pixels.tolist() == [0] * zoom + [255] * zoom


def test_planes_and_pictures_beside_their_reconstructions():
    axes, points = Figure().subplots(), torch.randn(7, 2, requires_grad=True)
    figures.plane(axes, points)
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), points.detach())
    picture = np.asarray(figures.plane_image(torch.zeros(500, 2), figures.DATA))
    assert picture.shape == (500, 500, 3) and (np.abs(picture / 255 - to_rgb(figures.DATA)).max(2) < 0.02).any()
    x = torch.arange(3.0)[:, None]
    assert figures.beside(x, x + 10).flatten().tolist() == [0, 10, 1, 11, 2, 12]
    figures.show(axes, torch.rand(4, 1, 8, 8), title="digits")
    assert not axes.axison and axes.get_title() == "digits" and len(axes.images) == 1


def linear(a: float) -> Deterministic:
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = torch.eye(2) * a
    return Deterministic(layer)


def points_and_colours(axes):
    drawn = axes.collections[-1]
    return torch.tensor(np.asarray(drawn.get_offsets())), torch.tensor(drawn.get_facecolor()[:, :3]).float()


def test_inference_figure_follows_each_point_by_its_colour():
    noisy = nn.Linear(2, 4)  # z = x with a noise of 0.1
    noisy.weight.data, noisy.bias.data = torch.eye(4, 2), torch.tensor([0.0, 0.0, log(0.1), log(0.1)])
    encoders = {"half": linear(0.5), "noisy": Gaussian(noisy), "broken": linear(0.5)}
    models = {name: Game(linear(nan if name == "broken" else 2.0), 2, encoder) for name, encoder in encoders.items()}
    data = GridMixture().sample(400, seed=2)
    panels = np.array(inference_figure(models, data.x, data.labels).axes).reshape(5, 3)
    titles = [axes.get_title() for axes in panels.flat]
    assert titles == ["half", "noisy", "broken"] + [""] * 12 and all(axes.get_ylabel() for axes in panels[:, 0])
    of_mode, means = mode_colours(GridMixture().means), GridMixture().means
    assert (torch.cdist(of_mode, of_mode) + torch.eye(25)).min() > 0.1, "modes have different colours"
    (x, colours), (z_hat, colours_z), (x_hat, colours_hat) = map(points_and_colours, panels[:3, 0])
    order = torch.cdist(x, data.x.double()).argmin(1)
    assert order.sort().values.equal(torch.arange(400)) and not order.equal(torch.arange(400))
    torch.testing.assert_close(colours, of_mode[data.labels[order]])
    assert colours.equal(colours_z) and colours.equal(colours_hat)
    torch.testing.assert_close(z_hat, x / 2)
    torch.testing.assert_close(x_hat, x)
    x, z_hat, x_hat = (points_and_colours(axes)[0] for axes in panels[:3, 1])
    assert (z_hat - x).std() == pytest.approx(0.1, rel=0.2)
    torch.testing.assert_close(x_hat, 2 * z_hat)  # of the codes it shows
    (z, colours_z), (x_tilde, colours) = map(points_and_colours, panels[3:, 0])
    torch.testing.assert_close(x_tilde, 2 * z)
    torch.testing.assert_close(colours, of_mode[torch.cdist(x_tilde.float(), means).argmin(1)])
    assert colours.equal(colours_z) and all(points_and_colours(axes)[0].equal(z) for axes in panels[3, 1:])
    outside = (z_hat.abs() > 4).any(1).double().mean().item()  # is counted
    assert 0.1 < outside < 0.9 and panels[1, 1].texts[0].get_text() == f"{outside:.1%} outside"
    assert not panels[0, 1].texts and panels[4, 2].texts[0].get_text() == "100.0% outside"
    torch.testing.assert_close(points_and_colours(panels[3, 2])[1], torch.full((400, 3), 0.6))
    state = torch.manual_seed(9).get_state()  # is left alone, and changes nothing
    again = inference_figure({"noisy": models["noisy"]}, data.x, data.labels)
    assert torch.get_rng_state().equal(state)
    for before, after in zip(panels[:, 1], again.axes, strict=True):
        assert points_and_colours(before)[0].equal(points_and_colours(after)[0])


@pytest.mark.filterwarnings("error")
def test_learning_figure_draws_what_the_log_says():
    log = [{"step": 10 * i, "generator": 5.0, "discriminator": 1.0, "cycle": 1.0, "spread": 0.5} for i in range(1, 9)]

    def changed(log: list[dict]) -> np.ndarray:
        """In which rows of the figure."""
        return (np.asarray(learning_figure(log, epoch_steps=10)) != plain).any((1, 2))

    plain = np.asarray(learning_figure(log, epoch_steps=10))
    assert not changed([*log, {"step": 80, "reconstruction_mean": 0.1}]).any(), "an evaluation is no report"
    spread = changed([{**line, "spread": 0.45} for line in log])
    assert spread[250:].any() and not spread[:250].any()
    assert changed([{**line, "generator": 4.5} for line in log])[:250].any()
    gan = [{name: line[name] for name in ("step", "generator", "discriminator")} for line in log]
    assert changed(gan)[250:].any()


@pytest.mark.parametrize(("size", "zoom"), [(32, 3), (64, 2)])
def test_strips_have_a_row_and_a_name_each_that_is_whole_and_apart(size, zoom):
    """Names of the paper's grid, and long ones: no ink at the edges, nor where two columns meet."""
    x, each, names = torch.rand(12, 3, size, size), size * zoom + 2, [*[*COLUMNS][:11], "a receding hairline"]
    picture = strips({"female, attractive, not young": x, "inverted": 1 - x}, names, zoom)
    sheet, image = np.concatenate([grid(x, 12, zoom), grid(1 - x, 12, zoom)]), np.asarray(picture.convert("L"))
    top, left = image.shape[0] - len(sheet), image.shape[1] - sheet.shape[1]
    assert np.array_equal(np.asarray(picture)[top:, left:], sheet)
    for ink in (image[:top, left:], image[top : top + each, :left], image[top + each + 2 :, :left]):
        assert (ink < 128).any() and (ink[:, [0, 1, -1]] == 255).all() and (ink[[0, 1, -1]] == 255).all()
    between = [left + each * column + offset for column in range(1, 12) for offset in (0, 1, 2)]
    assert (image[:top, between] == 255).all()
