"""Quick layers: the numbers of the library's layers, up to rounding in training and to the last bit in evaluation, and
nothing else changes."""

import copy

import pytest
import torch
from games import assert_same, gradients
from torch import nn

from alikit import accelerate
from alikit.architectures import LAPTOP, PAPER_CELEBA, PAPER_CIFAR10, PAPER_SVHN, PAPER_TINY_IMAGENET
from alikit.fast import FastDropout, FastLinear, FastMaxout, convolutions
from alikit.fast.convolutions import transforms
from alikit.networks import Maxout
from alikit.recipes import RECIPES

CHANNELS_LAST = torch.channels_last


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def always(monkeypatch):
    """Quick convolutions also for layers so small that they do not pay."""
    for cost in ("SUMS", "OF_WEIGHTS"):
        monkeypatch.setattr(convolutions, cost, 0)


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return ((found - exact).norm() / exact.norm()).item()


def outcome(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """What comes out, the gradients of input and parameters, and those of a penalty on the first, as of R1."""
    torch.manual_seed(1)
    y = layer(x)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y.dtype)
    first = torch.autograd.grad(y, [x, *layer.parameters()], upstream, retain_graph=True)
    torch.manual_seed(1)
    (slope,) = torch.autograd.grad((layer(x) * upstream).sum(), x, create_graph=True)
    penalised = [p for p in layer.parameters() if p.ndim > 1]
    second = torch.autograd.grad(slope.square().sum(), penalised, allow_unused=True) if penalised else ()
    return [y, *first, *(g for g in second if g is not None)]


@pytest.mark.parametrize("layer", [nn.Conv2d(2, 3, 4, 2), nn.ConvTranspose2d(2, 3, 4, 2), nn.Conv2d(2, 3, 3)], ids=str)
def test_convolutions_by_values_at_points(layer, always, monkeypatch):
    """In numbers long enough to tell an error of method from rounding: outputs, first and second derivatives. A pass
    computes only what it wants, and is not misled by what an earlier one over the same graph has kept."""
    layer, x = copy.deepcopy(layer).double(), torch.randn(6, 2, 10, 10, dtype=torch.double, requires_grad=True)
    library = outcome(layer, x)
    torch.testing.assert_close(outcome(accelerate(layer), x), library, atol=1e-9, rtol=1e-9)
    few = torch.randn(1, 2, 6, 6, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(
        lambda x, w: torch.func.functional_call(layer, {"weight": w}, x), (few, layer.weight)
    )
    y, read, calls = layer(x), convolutions._compute, []

    def listen(wanted, *more, **keep):
        calls.append(wanted)
        return read(wanted, *more, **keep)

    monkeypatch.setattr(convolutions, "_compute", listen)
    for upstream in torch.randn(2, *y.shape, dtype=torch.double):
        apart = [torch.autograd.grad(y, v, upstream, retain_graph=True)[0] for v in (x, layer.weight)]
        together = torch.autograd.grad(accelerate(layer, False)(x), (x, layer.weight), upstream)
        torch.testing.assert_close(tuple(apart), together, atol=1e-9, rtol=1e-9)
    assert {len(wanted) for wanted in calls} == {1} and len(calls) == 4
    (a, g, b, tiles), largest = transforms(10, 4), max(len(transforms(side, 3)[1]) for side in range(1, 40))
    assert (a.shape, g.shape, b.shape, tiles) == ((5, 8), (8, 4), (8, 8), 2) and largest == 8, "the fewest products"


def rows() -> list[tuple]:
    """Convolutions of the recipes' tables that see pictures, and others with strides that do not divide."""
    found = {}
    for table in (PAPER_CIFAR10, PAPER_SVHN, PAPER_CELEBA, PAPER_TINY_IMAGENET, LAPTOP):
        for part, side, channels in (
            *((table.encoder, table.size, 3), (table.decoder, 1, 64), (table.of_x, table.size, 3)),
        ):
            for row in part[:-1]:
                found[row.up, channels, row.maps, row.kernel, row.stride, side] = None
                side, channels = row.side(side), row.maps
    for side, kernel, stride in ((13, 4, 2), (14, 4, 2), (13, 5, 2), (12, 7, 2), (17, 4, 3), (9, 3, 1)):
        found |= {(up, 64, 64, kernel, stride, side): None for up in (False, True)}
    return [*found]


@pytest.mark.parametrize("row", rows(), ids=str)
def test_every_convolution_is_its_library_layer(row, always):
    """Within the rounding of float32, and no further from the truth than ten times the library's own."""
    up, channels, maps, kernel, stride, side = row
    layer = (nn.ConvTranspose2d if up else nn.Conv2d)(channels, maps, kernel, stride).to(memory_format=CHANNELS_LAST)
    x = torch.randn(2, channels, side, side).to(memory_format=CHANNELS_LAST).requires_grad_()
    library = outcome(layer, x)
    exact = outcome(copy.deepcopy(layer).double(), x.detach().double().requires_grad_())
    found = outcome(accelerate(layer), x)
    for one, other, truth in zip(found, library, exact, strict=True):
        assert one.shape == other.shape and error(one, truth) < max(1e-5, 10 * error(other, truth))
    assert all(one.is_contiguous(memory_format=CHANNELS_LAST) for one in found[:2])  # or what comes next is slow
    assert_same(layer.eval()(x), library[0])
    assert_same(accelerate(layer, False).train()(x), library[0])
    if side != 14 and channels == maps == 64:
        assert not torch.equal(found[0], library[0]), "quick ones round otherwise"


class Own(nn.Conv2d):
    """A reader's own."""


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        *(
            (nn.Conv2d(64, 64, 4, **other), (8, 64, 13, 13))
            for other in ({"padding": 1}, {"groups": 2}, {"dilation": 2})
        ),
        (nn.ConvTranspose2d(64, 64, 4, 2, output_padding=1), (8, 64, 13, 13)),
        (nn.Conv2d(64, 64, (4, 3)), (8, 64, 13, 13)),
        (Own(64, 64, 4), (8, 64, 13, 13)),
        (nn.Conv2d(4, 64, 4), (8, 4, 13, 13)),  # does not pay
        (nn.Conv2d(64, 64, 4), (8, 64, 13, 12)),
        (nn.Conv2d(64, 64, 4), (0, 64, 13, 13)),
        (nn.Conv2d(64, 64, 4), (64, 13, 13)),
        (nn.Linear(20, 9), (8, 20)),
        (nn.Dropout(0.5, inplace=True), (8, 20)),
    ],
)
def test_what_has_no_quick_form_is_left_alone(layer, x):
    x, outcomes = torch.randn(x), []
    for fast in (False, True):
        torch.manual_seed(1)
        outcomes.append(accelerate(layer, fast)(x.clone()))
    assert_same(*outcomes)


@pytest.mark.parametrize(
    ("layer", "x", "quick"),
    [
        (nn.Linear(3, 50), (20, 3), FastLinear),
        (nn.Linear(3, 50, False), (20, 3), FastLinear),
        (Maxout(3), (9, 6, 2), FastMaxout),
    ],
)
def test_other_layers_are_the_librarys(layer, x, quick):
    x = torch.randn(x, dtype=torch.double, requires_grad=True)
    library = outcome(layer.double(), x)
    torch.testing.assert_close(outcome(accelerate(layer), x), library)
    assert type(layer) is quick and torch.autograd.gradgradcheck(layer, x)


def test_bfloat16_is_the_librarys():
    layer, x = nn.Conv2d(64, 64, 4), torch.randn(8, 64, 13, 13)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(accelerate(copy.deepcopy(layer))(x), layer(x))


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 0.999999, 1.0])
def test_dropout(p):
    x = torch.ones(101, 3, 9, 11).to(memory_format=CHANNELS_LAST).requires_grad_()
    layer, seen = accelerate(nn.Dropout(p)), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        seen.append(torch.stack([layer(x), layer(x)]))
    kept = seen[0][0] > 0
    assert type(layer) is FastDropout and seen[0][0].is_contiguous(memory_format=CHANNELS_LAST)
    assert kept.float().mean().item() == pytest.approx(1 - p, abs=0.006)  # 29,997 coins: 2 standard deviations at least
    if 0 < p < 0.9:
        torch.testing.assert_close(seen[0][0][kept], torch.full((int(kept.sum()),), 1 / (1 - p)), atol=1e-5, rtol=0)
        assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2]) and not torch.equal(*seen[0])
        coins = kept.flatten()[: 7499 * 4].view(-1, 4).double()  # four come out of one number
        assert torch.corrcoef(coins.T).sub(torch.eye(4)).abs().max() < 0.05
    assert_same(torch.autograd.grad(seen[0][0].sum(), x)[0], seen[0][0].detach())
    assert_same(layer.eval()(x), x)


# Stacks and whole models.


def stack(*, dropout: bool = False) -> nn.Sequential:
    """Convolutions, LeakyReLUs (the second one used twice), a linear layer of few numbers, maxout."""
    shared = nn.LeakyReLU(0.2)
    coins = [nn.Dropout(0.3)] if dropout else []
    return nn.Sequential(
        *(nn.Conv2d(16, 16, 4), nn.LeakyReLU(0.1), *coins, nn.BatchNorm2d(16), shared, nn.Conv2d(16, 2, 7), shared),
        *(nn.Flatten(), nn.Linear(2, 12), Maxout(3), nn.Linear(4, 1)),
    )


def test_a_stack_has_the_library_stacks_numbers_state_and_parameters(always):
    """For both passes and for R1's second derivatives. A slice is a stack too."""
    quick, x = stack(), torch.randn(8, 16, 10, 10, requires_grad=True)
    library, state, parameters = copy.deepcopy(quick), quick.state_dict(), [*quick.parameters()]
    assert accelerate(quick) is quick
    before = x.detach().clone()
    for one, other in zip(outcome(quick, x), outcome(library, x), strict=True):
        assert error(one, other) < 1e-4
    torch.testing.assert_close(quick[:5](x), library[:5](x), atol=1e-4, rtol=1e-4)
    assert torch.equal(x, before), "the input is not written over"
    assert quick.state_dict().keys() == state.keys() and all(map(lambda a, b: a is b, quick.parameters(), parameters))
    library.load_state_dict(quick.state_dict())
    assert_same(quick.eval()(x), library.eval()(x))
    accelerate(quick, False)
    assert [type(layer) for layer in quick.modules()] == [type(layer) for layer in library.modules()]


class Keeper(nn.Linear):
    """Keeps what it gives."""

    def forward(self, x):
        self.kept = super().forward(x)
        return self.kept


@pytest.mark.parametrize("first", [nn.Identity(), nn.Flatten(0, 0), nn.Sequential(), Keeper(40, 40)])
@pytest.mark.parametrize("rest", [[nn.LeakyReLU(0.1)], [nn.LeakyReLU(0.1), nn.Dropout(0.5)]])
def test_what_others_may_need_is_never_written_over(first, rest):
    x = torch.randn(40)
    before, given = x.clone(), first(x).clone()
    accelerate(nn.Sequential(first, *rest))(x)
    assert torch.equal(x, before) and torch.equal(getattr(first, "kept", x), given)


@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize(
    ("maker", "side"), [(nn.Conv2d(8, 8, 4, bias=False), 13), (nn.ConvTranspose2d(8, 8, 4, 2, bias=False), 5)]
)
def test_a_convolution_without_bias_before_any_leaky_relu(maker, side, number, always):
    for slope in (0.1, -0.1):
        net, x = nn.Sequential(maker, nn.LeakyReLU(slope)), torch.randn(number, 8, side, side, requires_grad=True)
        library = outcome(accelerate(net, False), x)
        torch.testing.assert_close(outcome(accelerate(net), x), library, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("which", ["convolution", "leaky", "dropout", "module"])
def test_hooks_see_what_they_would_see_without(which):
    """And what they keep stays as it was."""
    found = []
    for fast in (True, False):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 8, 4), nn.LeakyReLU(0.1), nn.Dropout(0.0), nn.Conv2d(8, 8, 3))
        seen, inner = [], dict(zip(("convolution", "leaky", "dropout"), net, strict=False))
        inner.get(which, net).register_forward_hook(lambda layer, args, y, seen=seen: seen.extend((*args, y)))
        accelerate(net, fast)(torch.randn(4, 3, 8, 8)).sum().backward()
        found.append(seen)
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-4)


def test_dropout_after_leaky_relu_is_both():
    net, v = accelerate(stack(dropout=True)), torch.randn(40, 16, 10, 10)
    inside = net[0](v).detach()
    y = net[:3](v)
    kept = y != 0
    assert 0.65 < kept.float().mean() < 0.75
    torch.testing.assert_close(y, torch.where(inside > 0, inside, 0.1 * inside) / 0.7 * kept, atol=1e-4, rtol=1e-4)
    (found,) = torch.autograd.grad(y.sum(), net[0].bias)
    torch.testing.assert_close(found, ((inside > 0) * 0.9 + 0.1).mul(kept / 0.7).sum((0, 2, 3)), atol=0.1, rtol=1e-4)


@pytest.mark.parametrize("name", ["svhn", "cifar10"])
def test_whole_games_have_the_gradients_of_library_layers(name, monkeypatch):
    """But for units within rounding of 0, or of another piece of maxout, whose gradients jump. Coins of dropout are
    other ones, so there are none here."""
    game = RECIPES[name].build((3, 32, 32)).to(memory_format=CHANNELS_LAST).train()
    for layer in game.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    x, z, noise = torch.rand(16, 3, 32, 32), torch.randn(16, game.z_dim), torch.randn(16, game.z_dim)
    monkeypatch.setattr(game, "prior", lambda _: z.to(x.dtype))
    monkeypatch.setattr(torch, "randn_like", lambda mu: noise.to(mu.dtype))
    ours, libraries = gradients(accelerate(game), x)[1], gradients(accelerate(game, False), x)[1]
    x = x.double()
    exact = gradients(game.double(), x)[1]
    for player in exact:
        one, other, truth = (torch.cat([g.flatten() for g in each[player]]) for each in (ours, libraries, exact))
        assert error(one, truth) < 3e-3 and error(other, truth) < 3e-3 and not torch.equal(one, other), player
