import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, dropout, leaky_relu

from alikit import convolutions
from alikit.convolutions import Adjoint, Convolution, Correlation, Dropout, Products, Transposed, plain, transforms
from alikit.networks import Conv, conv_stack
from alikit.recipes import LAPTOP, PAPER_CELEBA, PAPER_CIFAR10, PAPER_SVHN, PAPER_TINY_IMAGENET, RECIPES

CHANNELS_LAST = torch.channels_last


def channels_last(*shape: int) -> torch.Tensor:
    return torch.randn(shape).to(memory_format=CHANNELS_LAST).requires_grad_()


@pytest.fixture
def always(monkeypatch):
    """Ours also for layers so small that it does not pay."""
    for cost in ("SUMS", "OF_WEIGHTS"):
        monkeypatch.setattr(convolutions, cost, 0)


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return ((found - exact).norm() / exact.norm()).item()


def with_gradients(layer: nn.Module, x: torch.Tensor, upstream: torch.Tensor) -> list[torch.Tensor]:
    """What comes out, and the gradients of input and parameters."""
    y = layer(x)
    return [y, *torch.autograd.grad(y, [x, *layer.parameters()], upstream.to(y.dtype))]


@pytest.mark.parametrize("taps", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("side", [2, 4, 5, 10, 13, 29])
def test_a_correlation_by_values_at_points(side, taps):
    """All three readings of the form, in numbers long enough to tell an error of method from rounding."""
    size = side + taps - 1
    x = torch.randn(2, size, size, 3, 2, dtype=torch.float64, requires_grad=True)  # two blocks of three examples
    w = torch.randn(taps, taps, 2, 4, dtype=torch.float64, requires_grad=True)
    y = torch.stack([conv2d(one.permute(2, 3, 0, 1), w.permute(3, 2, 0, 1)).permute(2, 3, 0, 1) for one in x])
    upstream = torch.randn_like(y)
    of_x, of_w = torch.autograd.grad(y, (x, w), upstream)
    torch.testing.assert_close(Correlation.apply(x, w), y, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(Adjoint.apply(upstream, w), of_x, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(Products.apply(x, upstream), of_w, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("form", [Correlation, Adjoint, Products])
def test_first_and_second_derivatives(form):
    numbers = {"dtype": torch.float64, "requires_grad": True}
    x, w, y = (torch.randn(*shape, **numbers) for shape in ((2, 6, 6, 2, 2), (2, 2, 2, 3), (2, 5, 5, 2, 3)))
    arguments = {Correlation: (x, w), Adjoint: (y, w), Products: (x, y)}[form]
    assert torch.autograd.gradcheck(form.apply, arguments) and torch.autograd.gradgradcheck(form.apply, arguments)


@pytest.mark.parametrize("form", [Correlation, Adjoint, Products])
def test_a_pass_makes_only_what_it_wants(form, monkeypatch):
    """And the next over the same graph, with other gradients upstream, is not misled by what was kept."""
    x, w, y = (torch.randn(*shape).requires_grad_() for shape in ((2, 8, 8, 2, 2), (3, 3, 2, 3), (2, 6, 6, 2, 3)))
    one, other = {Correlation: (x, w), Adjoint: (y, w), Products: (x, y)}[form]
    found, wanted = form.apply(one * 1, other * 1), []
    read = convolutions._read

    def listen(which, *args, keep=False):
        if not keep:  # a way back
            wanted.append(which)
        return read(which, *args, keep=keep)

    monkeypatch.setattr(convolutions, "_read", listen)
    gradients = []
    for upstream in torch.randn(2, *found.shape):
        gradients.append([torch.autograd.grad(found, v, upstream, retain_graph=True)[0] for v in (one, other)])
        both = torch.autograd.grad(found, (one, other), upstream, retain_graph=True)
        again = torch.autograd.grad(form.apply(one, other), (one, other), upstream)
        for apart, together, anew in zip(gradients[-1], both, again, strict=True):
            torch.testing.assert_close(apart, together)
            torch.testing.assert_close(apart, anew)
    letters = {Correlation: "xw", Adjoint: "yw", Products: "xy"}[form]
    assert wanted == [*letters, letters, letters] * 2
    assert not torch.equal(gradients[0][0], gradients[1][0])


def test_tiles_make_the_fewest_products():
    """Of 10 results by 4 weights, two tiles of 5, whose 8 positions are all there are points for."""
    (a, g, b, tiles), largest = transforms(10, 4), max(len(transforms(side, 3)[1]) for side in range(1, 40))
    assert (a.shape, g.shape, b.shape, tiles) == ((5, 8), (8, 4), (8, 8), 2) and largest == 8


def rows(table) -> list[tuple[Conv, int, int]]:
    """Rows of a recipe's tables whose layers see pictures, with the side and the channels that each of them sees."""
    found = []
    for part, side, channels in ((table.encoder, table.size, 3), (table.decoder, 1, 64), (table.of_x, table.size, 3)):
        for row in part[:-1]:
            found.append((row, side, channels))
            side, channels = row.side(side), row.maps
    return found


@pytest.mark.parametrize("table", [PAPER_CIFAR10, PAPER_SVHN, PAPER_CELEBA, PAPER_TINY_IMAGENET, LAPTOP])
def test_every_row_of_the_tables_is_its_library_layer(table, always):
    """Within the rounding of float32, and no further from the truth than ten times the library's own convolutions."""
    torch.manual_seed(0)
    ours = set()
    for row, side, channels in sorted(set(rows(table)), key=str):
        kind = Transposed if row.up else Convolution
        layer = kind(channels, row.maps, row.kernel, row.stride).to(memory_format=CHANNELS_LAST)
        x = channels_last(4, channels, side, side)
        upstream = torch.randn(4, row.maps, row.side(side), row.side(side))
        found = with_gradients(layer, x, upstream)
        libraries = with_gradients(plain(layer), x, upstream)
        exact = with_gradients(layer.double(), x.detach().double().requires_grad_(), upstream)
        for one, other, truth in zip(found, libraries, exact, strict=True):
            assert one.shape == other.shape
            assert error(one, truth) < max(1e-5, 10 * error(other, truth)), row
        assert all(one.is_contiguous(memory_format=CHANNELS_LAST) for one in found[:2])  # or what comes next is slow
        if not torch.equal(found[0], libraries[0]):
            ours.add(row)
    assert len(ours) > 4  # the others make no fewer products


@pytest.mark.parametrize("kind", [Convolution, Transposed])
@pytest.mark.parametrize(
    ("side", "kernel", "stride"), [(13, 4, 2), (14, 4, 2), (13, 5, 2), (12, 7, 2), (17, 4, 3), (9, 3, 1)]
)
def test_sides_and_strides_that_do_not_divide(kind, side, kernel, stride, always):
    layer = kind(64, 64, kernel, stride).to(memory_format=CHANNELS_LAST)
    x = channels_last(8, 64, side, side)
    upstream = torch.randn(plain(kind(64, 64, kernel, stride))(x).shape)
    found, libraries = with_gradients(layer, x, upstream), with_gradients(plain(layer), x, upstream)
    assert not torch.equal(found[0], libraries[0])
    for one, other in zip(found, libraries, strict=True):
        assert error(one, other) < 1e-5


@pytest.mark.parametrize("case", ["plain", "asked", "bfloat16", "narrow", "rectangle"])
def test_the_librarys_own_convolution_where_ours_is_not_for(case):
    channels = 4 if case == "narrow" else 64
    layer, x = Convolution(channels, 64, 4), torch.randn(8, channels, 13, 12 if case == "rectangle" else 13)
    library = nn.Conv2d(channels, 64, 4)
    library.load_state_dict(layer.state_dict())
    if case == "plain":
        plain(layer)
    if case == "asked":
        layer.eval()
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "bfloat16"):
        assert torch.equal(layer(x), library(x))


@pytest.mark.parametrize("kind", [Convolution, Transposed])
def test_odd_batches_are_the_librarys(kind):
    layer = kind(64, 32, 4, 2)
    assert layer(torch.zeros(0, 64, 14, 14)).shape == plain(kind(64, 32, 4, 2))(torch.zeros(0, 64, 14, 14)).shape
    assert layer(torch.zeros(64, 14, 14)).ndim == 3
    if kind is Convolution:
        with pytest.raises(RuntimeError, match="ernel size"):
            layer(torch.zeros(8, 64, 2, 2))


def test_in_training_it_is_ours():
    layer, x = Convolution(64, 64, 4), torch.randn(8, 64, 13, 13)
    assert not torch.equal(layer(x), nn.Conv2d.forward(layer, x))


@pytest.mark.parametrize("name", ["svhn", "cifar10"])
def test_whole_games_have_the_gradients_of_library_layers(name, monkeypatch):
    """But for units within rounding of 0, or of another piece of maxout, whose gradients jump. Coins of dropout are
    other ones, so there are none here."""
    torch.manual_seed(0)
    recipe = RECIPES[name]
    game = recipe.build((3, 32, 32)).to(memory_format=CHANNELS_LAST).train()
    for layer in game.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    x, z, noise = torch.rand(32, 3, 32, 32), torch.randn(32, recipe.z_dim), torch.randn(32, recipe.z_dim)
    monkeypatch.setattr(game, "prior", lambda _: z)
    monkeypatch.setattr(torch, "randn_like", lambda mu: noise.to(mu.dtype))
    ours, libraries = game.gradients(x)[1], plain(game).gradients(x)[1]
    x, z = x.double(), z.double()
    exact = game.double().gradients(x)[1]
    for player in exact:
        one, other, truth = (torch.cat([g.flatten() for g in each[player]]) for each in (ours, libraries, exact))
        assert error(one, truth) < 3e-3 and error(other, truth) < 3e-3, player
        assert not torch.equal(one, other)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5])
def test_dropout(p):
    torch.manual_seed(0)
    x = torch.ones(101, 3, 9, 11).to(memory_format=CHANNELS_LAST).requires_grad_()
    y = Dropout(p)(x)
    kept = y > 0
    assert kept.float().mean().item() == pytest.approx(1 - p, abs=0.006)  # 29,997 coins: 2 standard deviations at least
    torch.testing.assert_close(y[kept], torch.full((int(kept.sum()),), 1 / (1 - p)), atol=1e-5, rtol=0)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, y.detach()) and y.is_contiguous(memory_format=CHANNELS_LAST)


def test_coins_differ_from_call_to_call_and_follow_the_seed():
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masks.append(torch.stack([Dropout(0.5)(torch.ones(64)) for _ in range(2)]))
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])
    assert not torch.equal(*masks[0])


def test_coins_are_independent_of_their_neighbours():
    """Four coins come out of one number."""
    torch.manual_seed(0)
    lost = (Dropout(0.5)(torch.ones(40_000)) == 0).view(-1, 4).double()
    assert torch.corrcoef(lost.T).sub(torch.eye(4)).abs().max() < 0.04  # 4 standard deviations


def test_dropout_after_leaky_relu_is_both():
    torch.manual_seed(0)
    first, leaky = nn.Linear(50, 60), convolutions.LeakyReLU(0.1)
    stack, v = nn.Sequential(first, leaky, Dropout(0.2, after=leaky)), torch.randn(40, 50).requires_grad_()
    inside, y = first(v), stack(v)
    expected = leaky_relu(inside, 0.1) / (1 - 13107 / 65536)  # a whole number of 65536ths
    kept = y != 0
    assert 0.75 < kept.float().mean() < 0.85
    torch.testing.assert_close(y, expected * kept)
    upstream = torch.randn_like(y)
    found = torch.autograd.grad(y, [v, *first.parameters()], upstream)
    torch.testing.assert_close(found, torch.autograd.grad(expected * kept, [v, *first.parameters()], upstream))
    assert torch.equal(stack.eval()(v), leaky_relu(inside, 0.1))
    torch.manual_seed(1)
    other = plain(stack.train())(v)
    torch.manual_seed(1)
    assert torch.equal(other, dropout(leaky_relu(inside, 0.1), 0.2))


@pytest.mark.parametrize("p", [1.0, 0.999999])
def test_all_coins_lost(p):
    assert Dropout(p)(torch.ones(1000)).max() == 0
    leaky = convolutions.LeakyReLU(0.1)
    assert nn.Sequential(leaky, Dropout(p, after=leaky))(-torch.ones(1000)).min() == 0


def test_dropout_leaves_questions_alone():
    assert torch.equal(Dropout(0.5).eval()(torch.ones(9)), torch.ones(9))


def test_a_stack_of_layers_is_made_of_these():
    stack = conv_stack((Conv(4, 2, 64, dropout=0.2), Conv(4, 1, None, up=True)), 3, 0.1, outputs=3)
    assert [type(layer) for layer in stack if isinstance(layer, Dropout | nn.Conv2d | nn.ConvTranspose2d)] == [
        Dropout,
        Convolution,
        Transposed,
    ]
