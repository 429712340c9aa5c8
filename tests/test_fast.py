"""Quick layers: the numbers of the library's layers, up to rounding in training and to the last bit in evaluation, and
nothing else changes."""

import copy

import pytest
import torch
from games import assert_same, gradients
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import linear

from alikit import accelerate
from alikit.fast import FastDropout, FastLinear, FastMaxout, convolutions
from alikit.networks import Maxout
from alikit.recipes import RECIPES

CHANNELS_LAST = torch.channels_last


@pytest.fixture
def always(monkeypatch):
    """Quick convolutions also for layers so small that they do not pay."""
    for cost in ("SUMS", "OF_WEIGHTS"):
        monkeypatch.setattr(convolutions, cost, 0)


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return ((found - exact).norm() / exact.norm()).item()


def outcome(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """What comes out, the gradients of input and parameters, together and then x's alone as a generator's pass wants
    it, and those of a penalty on the latter, as of R1."""
    y = layer(x)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y.dtype)
    first = torch.autograd.grad(y, [x, *layer.parameters()], upstream, retain_graph=True)
    alone = torch.autograd.grad(y, x, upstream)
    (slope,) = torch.autograd.grad((layer(x) * upstream).sum(), x, create_graph=True)
    penalised = [p for p in layer.parameters() if p.ndim > 1]
    return [y, *first, *alone, *torch.autograd.grad(slope.square().sum(), penalised)]


@pytest.mark.parametrize("up", [False, True])
@given(st.integers(1, 7), st.integers(1, 3), st.integers(0, 30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
def test_every_convolution_is_its_library_layer(always, up, kernel, stride, side):
    """Within the rounding of float32, and no further from the truth than ten times the library's own."""
    side += 1 if up else kernel
    layer = (nn.ConvTranspose2d if up else nn.Conv2d)(16, 16, kernel, stride).to(memory_format=CHANNELS_LAST)
    x = torch.randn(2, 16, side, side).to(memory_format=CHANNELS_LAST).requires_grad_()
    library = outcome(layer, x)
    exact = outcome(copy.deepcopy(layer).double(), x.detach().double().requires_grad_())
    found = outcome(accelerate(layer), x)
    for one, other, truth in zip(found, library, exact, strict=True):
        assert one.shape == other.shape and error(one, truth) < max(1e-5, 10 * error(other, truth))
    assert all(one.is_contiguous(memory_format=CHANNELS_LAST) for one in found[:2])  # or what comes next is slow
    assert_same(layer.eval()(x), library[0])
    assert_same(accelerate(layer, False).train()(x), library[0])
    if kernel > stride and 2 < side != kernel and found[0].shape[2] > 2:
        assert not torch.equal(found[0], library[0]), "quick ones round otherwise"


class Keeper(nn.Conv2d):
    """A reader's own layer, which keeps what it gives."""

    def forward(self, x):
        self.kept = super().forward(x)
        return self.kept


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        *(
            (nn.Conv2d(64, 64, 4, **other), (8, 64, 13, 13))
            for other in ({"padding": 1}, {"groups": 2}, {"dilation": 2})
        ),
        (nn.ConvTranspose2d(64, 64, 4, 2, output_padding=1), (8, 64, 13, 13)),
        (nn.Conv2d(64, 64, (4, 3)), (8, 64, 13, 13)),
        (Keeper(64, 64, 4), (8, 64, 13, 13)),
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


def test_bfloat16_is_the_librarys():
    layer, x = nn.Conv2d(64, 64, 4), torch.randn(8, 64, 13, 13)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(accelerate(copy.deepcopy(layer))(x), layer(x))


@pytest.mark.parametrize(
    ("layer", "side"), [(nn.Conv2d(6, 5, 4), 4), (nn.Conv2d(6, 5, 1), 1), (nn.ConvTranspose2d(6, 5, 4), 1)]
)
def test_bfloat16_to_one_pixel_or_from_one_is_a_product(layer, side, monkeypatch):
    x, found, products = torch.randn(8, 6, side, side, requires_grad=True), [], []
    monkeypatch.setattr(convolutions, "linear", lambda *given: products.append(0) or linear(*given))
    for fast in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            y = accelerate(layer, fast)(x)
        slopes = torch.autograd.grad(y.float().square().sum(), [x, *layer.parameters()])
        found.append([y, *slopes])
        assert y.dtype == torch.bfloat16 and len(products) == fast
    for library, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, library, atol=0.02 * library.abs().max().item(), rtol=0)


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


LAYERS = {
    "convolution": lambda: nn.Conv2d(3, 3, 2),
    "without bias": lambda: nn.Conv2d(3, 3, 2, bias=False),
    "down and up": lambda: nn.Sequential(nn.Conv2d(3, 3, 4, 2), nn.ConvTranspose2d(3, 3, 4, 2)),
    "up": lambda: nn.ConvTranspose2d(3, 3, 3, bias=False),
    "maxout": lambda: nn.Sequential(nn.Conv2d(3, 6, 3), Maxout(2)),
    "batch norm": lambda: nn.BatchNorm2d(3),
    "leaky": lambda: nn.LeakyReLU(0.1),
    "negative": lambda: nn.LeakyReLU(-0.1),
    "dropout": lambda: accelerate(nn.Dropout(0.3)),  # the library's has other coins
    "the same": nn.Identity,
    "a view": lambda: nn.Flatten(0, 0),
    "nothing": nn.Sequential,
    "kept": lambda: Keeper(3, 3, 1),
}


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([*LAYERS]), max_size=5), st.integers(0, 9), st.sampled_from([1, 3, 66]))
@example(["convolution", "leaky", "dropout", "up", "leaky", "leaky"], 0, 3)
@example(["convolution", "leaky", "dropout", "up", "leaky", "leaky"], 2, 3)
@example(["convolution", "leaky", "dropout", "up", "leaky", "leaky"], 3, 3)
def test_any_stack_has_the_library_stacks_numbers_state_and_parameters(always, names, hooked, number):
    """A layer may come twice. Hooks see what they would see without, and what they or others keep stays as it was."""
    made = {name: LAYERS[name]() for name in names}
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5), nn.Linear(5, 4, bias=False), Maxout(2)
    quick = nn.Sequential(*map(made.get, names), *head).double().to(memory_format=CHANNELS_LAST)
    library, parameters, found = copy.deepcopy(quick), [*quick.parameters()], []
    x = torch.randn(number, 3, 12, 12, dtype=torch.double).to(memory_format=CHANNELS_LAST)
    assert accelerate(quick) is quick
    for net in (quick, library):
        layers, seen, given = [*net.modules()], [], x.clone()
        layers[hooked % len(layers)].register_forward_hook(lambda _, args, y, seen=seen: seen.extend((*args, y)))
        torch.manual_seed(1)
        results = [net(given), net[:2](given), *outcome(net, x.clone().requires_grad_())]
        kept = [layer.kept for layer in layers if isinstance(layer, Keeper)]
        found.append([given, *results, *kept, *seen, net.state_dict()])
    torch.testing.assert_close(*found, atol=1e-9, rtol=1e-7)
    assert all(map(lambda a, b: a is b, quick.parameters(), parameters))
    library.load_state_dict(quick.state_dict())
    assert_same(quick.eval()(x), library.eval()(x))
    assert type(quick[-1]) is FastMaxout and {FastLinear} == {type(layer) for layer in quick[-3:-1]}
    layers, library_layers = ([type(layer) for layer in accelerate(net, False).modules()] for net in (quick, library))
    assert layers == library_layers


def test_a_whole_game_has_the_gradients_of_library_layers(monkeypatch):
    """But for units within rounding of 0, or of another piece of maxout, whose gradients jump. Coins of dropout are
    other ones, so there are none here."""
    game = RECIPES["cifar10"].build((3, 32, 32)).to(memory_format=CHANNELS_LAST).train()
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
